#pragma once
// How far a draft and the early exit of a target go with it, teacher-forced along the target's own stream: what every
// figure of speculation rests on, measured apart from any scheduler. By kind of prompt, and over all. At temperature 0
// the stream is greedy; above it is sampled with the counter noise of DESIGN section 9 (no filters or penalties), and
// coupled, independent and ratio-test acceptance are told of the same distributions. Blocks for as long as it takes.
// Not thread-safe.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/measure/figures.h"
#include "workers/measure/teacher_forcing.h"

namespace mirrorsd::measure {

inline constexpr std::array<int32_t, 4> kRecallTopKs = {1, 2, 4, 8};

struct MeasuredPrompt {
  std::string kind;
  std::vector<TokenId> token_ids;
};

struct AgreementOptions {
  float temperature = 0.0f;
  uint64_t seed = 1;
  int32_t max_tokens = 64;  // of each stream
  int32_t window = 4;       // of the acceptance length
  int32_t batch = 16;       // streams at a time
  std::vector<TokenId> end_token_ids;  // a stream ends after one; its row counts
  std::function<void(int64_t tokens_done, int64_t tokens_at_most)> on_progress;
};

// Of one kind of prompt, or of all.
struct AgreementFigures {
  std::string kind;
  int64_t num_prompts = 0;
  // The draft's token is the target's: greedy, above temperature 0 coupled.
  Share agreement;
  // The target's token is among the exit's K best, for K of kRecallTopKs; over all rows, and over the rows that the
  // draft missed, among the exit's best but the draft's own token (what the branches of a miss are made of).
  std::array<Share, 4> exit_recall;
  std::array<Share, 4> exit_recall_given_reject;
  RoundCount rounds;
  StreamVariety variety;
  // Above temperature 0 only.
  Share independent;           // measured, with noise of its own for the draft
  Share independent_expected;  // sum p q
  Share ratio_test;            // 1 - TV
  Share coupled_bound;         // (1 - TV) / (1 + TV)
};

struct AgreementReport {
  AgreementFigures all;
  std::vector<AgreementFigures> kinds;  // in the order of their first prompts
};

// Errors: those of ForceStreams; INVALID_FIELD for a draft with more tokens than the target, for no prompts
absl::StatusOr<AgreementReport> MeasureAgreement(const ForcedModels& models,
                                                 absl::Span<const MeasuredPrompt> prompts,
                                                 const AgreementOptions& options);

}  // namespace mirrorsd::measure
