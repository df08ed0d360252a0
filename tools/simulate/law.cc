#include "tools/simulate/law.h"

#include <algorithm>
#include <cmath>

#include "scheduler/policy/latency_law.h"

namespace mirrorsd::simulate {
namespace {

double Ms(absl::Duration time) { return absl::ToDoubleMilliseconds(time); }

// Over the kinds of text, by their shares.
double TokensOfWindow(const Settings& settings) {
  double weights = 0;
  double tokens = 0;
  for (const TextKind& kind : settings.kinds) {
    std::vector<double> acceptance = kind.acceptance;
    acceptance.resize(settings.num_speculative_tokens, acceptance.back());
    weights += kind.weight;
    tokens += kind.weight * scheduler::ExpectedTokens(acceptance);
  }
  return weights > 0 ? tokens / weights : 1;
}

}  // namespace

LawFigures CompareWithLaw(const Settings& settings, const Figures& figures) {
  LawFigures law;
  scheduler::RoundPhases phases = figures.phases;
  const absl::Duration depth = figures.depth_ms * absl::Milliseconds(1);
  const absl::Duration rollout = settings.num_speculative_tokens * depth;
  // The paper exchanges tokens for microseconds; the way to a worker and back is what that is here.
  const absl::Duration rendezvous = phases.done;
  if (settings.mode == SpeculationMode::kOff) {
    law.round_ms = Ms(scheduler::PlainRound(phases));
  } else if (settings.mode == SpeculationMode::kSerial) {
    phases.relay = absl::Nanoseconds(2 * settings.draft.one_way_ns);
    phases.used_depth = rollout;
    law.round_ms = Ms(scheduler::SerialRound(phases));
    law.paper_round_ms = Ms(scheduler::PaperSerialRound(phases.prefix, phases.suffix, rollout));
  } else if (settings.mode == SpeculationMode::kMirror) {
    if (figures.depth_ms > 0) {
      phases.used_depth =
          scheduler::FreeDepth(phases, depth, settings.num_speculative_tokens) * depth;
    }
    law.round_ms = Ms(scheduler::MirrorRound(phases));
    law.paper_round_ms = Ms(scheduler::PaperMirrorRound(phases.prefix, phases.suffix, rollout,
                                                        absl::ZeroDuration(), rendezvous));
    law.any_miss = scheduler::AnyMiss(
        figures.HitRate(), static_cast<int32_t>(std::lround(figures.sequences_per_round)));
  }
  if (law.paper_round_ms > 0) {
    law.paper_tokens_per_second = 1000 * TokensOfWindow(settings) / law.paper_round_ms;
  }
  return law;
}

}  // namespace mirrorsd::simulate
