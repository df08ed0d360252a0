#include "workers/measure/twin_calibration.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/error.h"
#include "common/noise.h"

namespace mirrorsd::measure {
namespace {

using engine::TwinSpec;
using engine::TwinWish;

constexpr uint32_t kPromptStream = 2;   // of the noise: 0 is the tokens', 1 the twins' weights
// Factors that are tried: so small that nothing is left of the layers, so large that nothing else is.
constexpr double kLowest = 1.0 / 256;
constexpr double kHighest = 16.0;
constexpr double kFirstStep = 2.0;      // a factor's first neighbour, up or down

size_t IndexOfTopK(int32_t top_k) {
  const auto it = std::find(kRecallTopKs.begin(), kRecallTopKs.end(), top_k);
  return static_cast<size_t>(it - kRecallTopKs.begin());
}

// The draft is the target's own first layers, so that one model is enough (its logits are those of the head after
// them, bit for bit: TwinDraftIsTheTargetsFirstLayers).
absl::StatusOr<AgreementFigures> Measure(const TwinSpec& spec, const CalibrationOptions& options,
                                         uint32_t set) {
  engine::EngineOptions engine_options = options.engine;
  engine_options.twin = {spec, engine::TwinRole::kTarget};
  const int32_t tokens = options.prompt_tokens + options.max_tokens;
  const int32_t blocks = (tokens + engine_options.block_tokens - 1) / engine_options.block_tokens;
  engine_options.num_kv_blocks = blocks * std::min(options.batch, options.num_prompts);
  engine_options.max_rows = std::max(options.batch, 16);
  auto engine = engine::Engine::Create(engine_options);
  if (!engine.ok()) return engine.status();
  AgreementOptions agreement;
  agreement.max_tokens = options.max_tokens;
  agreement.batch = options.batch;
  auto report = MeasureAgreement(
      {engine->get(), nullptr, spec.draft_layers, spec.exit_layer},
      RandomPrompts(spec.seed, options.num_prompts, options.prompt_tokens,
                    (*engine)->info().vocabulary_size, set), agreement);
  if (!report.ok()) return report.status();
  return std::move(report->all);
}

// The search for both factors.
class Search {
 public:
  Search(const TwinSpec& spec, const TwinWish& wish, const CalibrationOptions& options)
      : spec_(spec), wish_(wish), options_(options), top_k_(IndexOfTopK(wish.recall_top_k)) {}

  absl::StatusOr<TwinSpec> Run() {
    const bool one_factor = !wish_.exit_recall.has_value() || spec_.draft_layers == spec_.exit_layer;
    if (one_factor) {
      spec_.exit_damping = spec_.draft_damping;
      if (absl::Status solved = Solve({&spec_.draft_damping, &spec_.exit_damping}, Of::kAgreement);
          !solved.ok()) {
        return solved;
      }
      return spec_;
    }
    // Whoever has the higher cut is decided by the layers above it alone, nearly: first of the two.
    const bool draft_is_higher = spec_.draft_layers > spec_.exit_layer;
    for (int sweep = 0; sweep < 6; ++sweep) {
      for (const bool of_draft : {draft_is_higher, !draft_is_higher}) {
        double* const factor = of_draft ? &spec_.draft_damping : &spec_.exit_damping;
        const absl::Status solved = Solve({factor}, of_draft ? Of::kAgreement : Of::kRecall);
        if (!solved.ok()) return solved;
      }
      if (IsNear(Of::kAgreement) && IsNear(Of::kRecall)) return spec_;
    }
    return NotReached("the two wishes pull against each other");
  }

 private:
  enum class Of : uint8_t { kAgreement, kRecall };

  double Wished(Of of) const { return of == Of::kAgreement ? wish_.agreement : *wish_.exit_recall; }
  double Last(Of of) const {
    return of == Of::kAgreement ? last_.agreement.value() : last_.exit_recall[top_k_].value();
  }
  bool IsNear(Of of) const { return std::fabs(Last(of) - Wished(of)) <= options_.tolerance; }

  absl::Status NotReached(absl::string_view why) const {
    return InvalidField("agreement",
                        absl::StrFormat("was not reached: %s; the last measured were agreement %.3f and exit "
                                        "recall@%d %.3f with draft-damping %.4g and exit-damping %.4g",
                                        why, last_.agreement.value(), wish_.recall_top_k,
                                        last_.exit_recall[top_k_].value(), spec_.draft_damping,
                                        spec_.exit_damping),
                        "another wish, draft-layers or exit-layer, or factors given by hand");
  }

  // Sets the factors to `value`, measures, and tells how much the share is above what was wished.
  absl::StatusOr<double> Try(const std::vector<double*>& factors, double value, Of of) {
    for (double* factor : factors) *factor = value;
    if (num_measurements_ > 0 && spec_ == last_spec_) return Last(of) - Wished(of);
    if (++num_measurements_ > options_.max_measurements) {
      return NotReached(absl::StrCat(options_.max_measurements, " measurements were not enough"));
    }
    absl::StatusOr<AgreementFigures> measured = Measure(spec_, options_, kCalibrationSet);
    if (!measured.ok()) return measured.status();
    last_ = *std::move(measured);
    last_spec_ = spec_;
    if (options_.on_progress) {
      options_.on_progress(absl::StrFormat(
          "measurement %d: draft-damping %.4g, exit-damping %.4g: agreement %.3f, exit recall@%d %.3f",
          num_measurements_, spec_.draft_damping, spec_.exit_damping, last_.agreement.value(),
          wish_.recall_top_k, last_.exit_recall[top_k_].value()));
    }
    return Last(of) - Wished(of);
  }

  // Shares fall as factors rise. Leaves the factors where the share is near what was wished.
  absl::Status Solve(const std::vector<double*>& factors, Of of) {
    absl::StatusOr<double> excess = Try(factors, *factors[0], of);
    if (!excess.ok()) return excess.status();
    if (IsNear(of)) return absl::OkStatus();
    // A bracket [low, high] whose shares are above and below.
    double low = *factors[0], high = low, low_excess = *excess, high_excess = *excess;
    for (double step = kFirstStep; low_excess < 0; step *= step) {
      if (low <= kLowest) return NotReached("even without the layers above the cut the share is too low");
      high = low, high_excess = low_excess;
      low = std::max(low / step, kLowest);
      excess = Try(factors, low, of);
      if (!excess.ok()) return excess.status();
      if (IsNear(of)) return absl::OkStatus();
      low_excess = *excess;
    }
    for (double step = kFirstStep; high_excess > 0; step *= step) {
      if (high >= kHighest) return NotReached("the share stays too high whatever the factor");
      low = high, low_excess = high_excess;
      high = std::min(high * step, kHighest);
      excess = Try(factors, high, of);
      if (!excess.ok()) return excess.status();
      if (IsNear(of)) return absl::OkStatus();
      high_excess = *excess;
    }
    return Narrow(factors, of, low, low_excess, high, high_excess);
  }

  absl::Status Narrow(const std::vector<double*>& factors, Of of, double low, double low_excess,
                      double high, double high_excess) {
    while (high > low * 1.0005) {
      // Where the line between the ends crosses, but never so near to one that little is gained.
      const double part = std::clamp(low_excess / (low_excess - high_excess), 0.15, 0.85);
      // A weighted harmonic mean of the two: ratios matter, not differences.
      const double middle = low + (high - low) * part * low / (low * part + high * (1 - part));
      const absl::StatusOr<double> excess = Try(factors, middle, of);
      if (!excess.ok()) return excess.status();
      if (IsNear(of)) return absl::OkStatus();
      if (*excess > 0) {
        low = middle, low_excess = *excess;
      } else {
        high = middle, high_excess = *excess;
      }
    }
    return NotReached("the share jumps over what was wished: too few tokens to tell");
  }

  TwinSpec spec_;
  const TwinWish wish_;
  const CalibrationOptions& options_;
  const size_t top_k_;
  AgreementFigures last_;  // what was measured last, of last_spec_
  TwinSpec last_spec_;
  int32_t num_measurements_ = 0;
};

engine::TwinMeasured Summary(const AgreementFigures& figures, int32_t recall_top_k) {
  const size_t top_k = IndexOfTopK(recall_top_k);
  engine::TwinMeasured measured;
  measured.agreement = figures.agreement.value();
  measured.recall_top_k = recall_top_k;
  measured.exit_recall = figures.exit_recall[top_k].value();
  measured.exit_recall_given_reject = figures.exit_recall_given_reject[top_k].value();
  measured.num_tokens = figures.agreement.count();
  measured.num_rejects = figures.exit_recall_given_reject[top_k].count();
  measured.num_prompts = figures.num_prompts;
  measured.num_distinct_tokens = figures.variety.num_distinct_tokens;
  measured.share_of_distinct_runs = figures.variety.share_of_distinct_runs();
  return measured;
}

}  // namespace

std::vector<MeasuredPrompt> RandomPrompts(uint64_t seed, int32_t num_prompts, int32_t prompt_tokens,
                                          int32_t vocabulary_size, uint32_t set) {
  std::vector<MeasuredPrompt> prompts;
  for (int32_t i = 0; i < num_prompts; ++i) {
    MeasuredPrompt prompt{"synthetic", {}};
    for (int32_t t = 0; t < prompt_tokens; ++t) {
      const PhiloxBlock block = Philox4x32(
          {{static_cast<uint32_t>(t), static_cast<uint32_t>(i), set, kPromptStream}},
          static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
      const uint64_t scaled = uint64_t{block.word[0]} * static_cast<uint64_t>(vocabulary_size);
      prompt.token_ids.push_back(static_cast<TokenId>(scaled >> 32));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

absl::StatusOr<engine::TwinMeasured> MeasureTwin(const TwinSpec& spec, int32_t recall_top_k,
                                                 const CalibrationOptions& options) {
  if (!engine::IsRecallTopK(recall_top_k)) {
    return InvalidField("recall-top-k", absl::StrCat("is ", recall_top_k), "1, 2, 4 or 8");
  }
  const absl::StatusOr<AgreementFigures> figures = Measure(spec, options, kMeasuredSet);
  if (!figures.ok()) return figures.status();
  return Summary(*figures, recall_top_k);
}

absl::StatusOr<engine::TwinRecord> CalibrateTwin(const TwinSpec& spec, const TwinWish& wish,
                                                 const CalibrationOptions& options) {
  if (absl::Status checked = engine::CheckTwin(spec); !checked.ok()) return checked;
  if (absl::Status checked = engine::CheckWish(spec, wish); !checked.ok()) return checked;
  absl::StatusOr<TwinSpec> found = Search(spec, wish, options).Run();
  if (!found.ok()) return found.status();
  absl::StatusOr<engine::TwinMeasured> measured = MeasureTwin(*found, wish.recall_top_k, options);
  if (!measured.ok()) return measured.status();
  return engine::TwinRecord{*std::move(found), wish, *measured};
}

}  // namespace mirrorsd::measure
