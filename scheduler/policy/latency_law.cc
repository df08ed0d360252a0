#include "scheduler/policy/latency_law.h"

#include <algorithm>

#include "common/check.h"

namespace mirrorsd::scheduler {
namespace {

// x^n by multiplication: batches are small, and no libm is needed.
double ToThePower(double x, int32_t n) {
  double product = 1;
  for (; n > 0; n /= 2, x *= x) {
    if (n % 2 == 1) product *= x;
  }
  return product;
}

}  // namespace

absl::Duration PlainRound(const RoundPhases& phases) {
  return phases.prefix + phases.suffix + phases.done;
}

absl::Duration SerialRound(const RoundPhases& phases) {
  return phases.prefix + phases.suffix + phases.done + phases.relay + phases.used_depth;
}

absl::Duration MirrorRound(const RoundPhases& phases) {
  return phases.prefix + phases.exit_head +
         std::max(phases.suffix, phases.relay + phases.p1_residual + phases.used_depth) +
         phases.done + phases.hold;
}

absl::Duration TwoCohortsRound(const RoundPhases& phases, const RoundPhases& other) {
  const absl::Duration taking_turns =
      phases.prefix + phases.suffix + other.prefix + other.suffix;
  return std::max(taking_turns, SerialRound(phases));
}

int32_t FreeDepth(const RoundPhases& phases, absl::Duration per_depth, int32_t most) {
  CHECK(per_depth > absl::ZeroDuration());
  CHECK_GE(most, 0);
  const absl::Duration room = phases.suffix - phases.relay - phases.p1_residual;
  if (room <= absl::ZeroDuration()) return 0;
  absl::Duration rest;
  return static_cast<int32_t>(std::min<int64_t>(most, absl::IDivDuration(room, per_depth, &rest)));
}

double ExpectedTokens(absl::Span<const double> acceptance) {
  double tokens = 1;
  double all_so_far = 1;
  for (const double rate : acceptance) tokens += all_so_far *= rate;
  return tokens;
}

double ExpectedTokens(double acceptance, int32_t window) {
  double tokens = 1;
  double all_so_far = 1;
  for (int32_t i = 0; i < window; ++i) tokens += all_so_far *= acceptance;
  return tokens;
}

double ShareOfWindows(double after_window, double after_empty) {
  // w = w * after_window + (1 - w) * after_empty
  const double leaving = 1 - after_window + after_empty;
  return leaving > 0 ? after_empty / leaving : 1;
}

double AnyMiss(double hit_rate, int32_t num_sequences) {
  return 1 - ToThePower(hit_rate, num_sequences);
}

double Speed(double expected_tokens, absl::Duration expected_round) {
  if (expected_round <= absl::ZeroDuration()) return 0;
  return expected_tokens / absl::ToDoubleSeconds(expected_round);
}

absl::Duration PaperMirrorRound(absl::Duration prefix, absl::Duration suffix,
                                absl::Duration rollout, absl::Duration rendezvous_exit,
                                absl::Duration rendezvous_verify) {
  return prefix + rendezvous_exit + std::max(suffix, rollout) + rendezvous_verify;
}

absl::Duration PaperSerialRound(absl::Duration prefix, absl::Duration suffix,
                                absl::Duration rollout) {
  return prefix + suffix + rollout;
}

double SsdSpeedup(const SsdRound& round) {
  const double none_misses = ToThePower(round.hit_rate, round.batch);
  const double tokens =
      round.hit_rate * round.tokens_hit + (1 - round.hit_rate) * round.tokens_miss;
  const double passes =
      none_misses * std::max(1.0, round.primary) + (1 - none_misses) * (1 + round.backup);
  return tokens / passes;
}

}  // namespace mirrorsd::scheduler
