#include "workers/measure/agreement.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/noise.h"
#include "workers/engine/sampling/row_ops.h"
#include "workers/engine/sampling/sampling_state.h"
#include "workers/measure/row_match.h"

namespace mirrorsd::measure {
namespace {

constexpr uint64_t kOtherNoise = 0x9e3779b97f4a7c15u;  // between the seeds of coupled and independent noise

// What is kept of each row of one stream.
struct Row {
  bool match = false;
  bool independent_match = false;
  std::array<bool, 4> recalled{};
  std::array<bool, 4> recalled_others{};
  RowDistance distance;
};

// Takes the rows of a position as they come, exit and draft in either order, and judges them with the target's.
class Judge {
 public:
  Judge(const AgreementOptions& options, size_t num_prompts, int32_t vocabulary_size)
      : options_(options),
        greedy_(options.temperature <= engine::kGreedyTemperature),
        pending_(num_prompts),
        rows_(num_prompts),
        noise_(static_cast<size_t>(vocabulary_size)) {}

  absl::StatusOr<TokenId> Take(const ForcedRow& row) {
    Pending& pending = pending_[row.sequence];
    switch (row.of) {
      case RowOf::kExit:
        Perturb(row, options_.seed);
        pending.exit_best = BestTokens(row.logits, kExitCandidates);
        return TokenId{-1};
      case RowOf::kDraft:
        return TakeDraft(row, &pending);
      case RowOf::kTarget:
        return TakeTarget(row, &pending);
    }
    return TokenId{-1};
  }

  const std::vector<std::vector<Row>>& rows() const { return rows_; }

 private:
  struct Pending {
    std::vector<TokenId> exit_best;
    TokenId draft_token = -1;
    TokenId independent_token = -1;
    std::vector<float> draft_logits;  // above temperature 0
  };

  // logits / temperature + noise; nothing where greedy.
  void Perturb(const ForcedRow& row, uint64_t seed) {
    if (greedy_) return;
    const absl::Span<float> noise = absl::MakeSpan(noise_).subspan(0, row.logits.size());
    engine::FillGumbelRow({seed, static_cast<uint32_t>(row.sequence),
                           static_cast<uint32_t>(row.position)}, noise);
    engine::DivideRow(row.logits, options_.temperature);
    engine::AddRow(row.logits, noise);
  }

  absl::StatusOr<TokenId> TakeDraft(const ForcedRow& row, Pending* pending) {
    if (!greedy_) {
      pending->draft_logits.assign(row.logits.begin(), row.logits.end());
      Perturb(row, options_.seed ^ kOtherNoise);
      pending->independent_token = engine::FindPeak(row.logits).token;
      std::copy(pending->draft_logits.begin(), pending->draft_logits.end(), row.logits.begin());
      Perturb(row, options_.seed);
    }
    const engine::RowPeak peak = engine::FindPeak(row.logits);
    if (peak.token < 0) return NotANumber("draft");
    pending->draft_token = peak.token;
    return TokenId{-1};
  }

  absl::StatusOr<TokenId> TakeTarget(const ForcedRow& row, Pending* pending) {
    Row judged;
    if (!greedy_) {
      judged.distance = CompareRows(row.logits, pending->draft_logits, options_.temperature);
    }
    Perturb(row, options_.seed);
    const engine::RowPeak peak = engine::FindPeak(row.logits);
    if (peak.token < 0) return NotANumber("target");
    judged.match = pending->draft_token == peak.token;
    judged.independent_match = pending->independent_token == peak.token;
    for (size_t i = 0; i < kRecallTopKs.size(); ++i) {
      judged.recalled[i] = IsAmongBest(pending->exit_best, kRecallTopKs[i], peak.token, -1);
      judged.recalled_others[i] =
          IsAmongBest(pending->exit_best, kRecallTopKs[i], peak.token, pending->draft_token);
    }
    rows_[row.sequence].push_back(judged);
    ++num_tokens_;
    if (options_.on_progress) {
      options_.on_progress(num_tokens_,
                           static_cast<int64_t>(rows_.size()) * options_.max_tokens);
    }
    const bool ends = std::find(options_.end_token_ids.begin(), options_.end_token_ids.end(),
                                peak.token) != options_.end_token_ids.end();
    return ends ? TokenId{-1} : peak.token;
  }

  static absl::Status NotANumber(absl::string_view whose) {
    return MakeError(absl::StatusCode::kInternal,
                     absl::StrCat("the ", whose, "'s logits hold values that are no numbers"),
                     {.reason = "NAN_LOGITS"});
  }

  const AgreementOptions& options_;
  const bool greedy_;
  std::vector<Pending> pending_;          // [prompt]
  std::vector<std::vector<Row>> rows_;    // [prompt][position]
  std::vector<float> noise_;
  int64_t num_tokens_ = 0;
};

template <typename Value>
void AddTo(Share* share, const std::vector<Row>& rows, Value&& value) {
  double sum = 0.0;
  for (const Row& row : rows) sum += value(row);
  share->AddGroup(sum, static_cast<int64_t>(rows.size()));
}

void AddPrompt(const std::vector<Row>& rows, const AgreementOptions& options,
               AgreementFigures* figures) {
  ++figures->num_prompts;
  AddTo(&figures->agreement, rows, [](const Row& row) { return row.match ? 1.0 : 0.0; });
  for (size_t i = 0; i < kRecallTopKs.size(); ++i) {
    AddTo(&figures->exit_recall[i], rows, [i](const Row& row) { return row.recalled[i] ? 1.0 : 0.0; });
    int64_t rejects = 0, recalled = 0;
    for (const Row& row : rows) {
      if (row.match) continue;
      ++rejects;
      recalled += row.recalled_others[i] ? 1 : 0;
    }
    figures->exit_recall_given_reject[i].AddGroup(static_cast<double>(recalled), rejects);
  }
  std::vector<uint8_t> matches;
  for (const Row& row : rows) matches.push_back(row.match ? 1 : 0);
  figures->rounds.Add(CountRounds(matches, options.window));
  if (options.temperature <= engine::kGreedyTemperature) return;
  AddTo(&figures->independent, rows, [](const Row& row) { return row.independent_match ? 1.0 : 0.0; });
  AddTo(&figures->independent_expected, rows,
        [](const Row& row) { return row.distance.match_of_independent; });
  AddTo(&figures->ratio_test, rows, [](const Row& row) { return row.distance.ratio_test(); });
  AddTo(&figures->coupled_bound, rows, [](const Row& row) { return row.distance.coupled_bound(); });
}

}  // namespace

absl::StatusOr<AgreementReport> MeasureAgreement(const ForcedModels& models,
                                                 absl::Span<const MeasuredPrompt> prompts,
                                                 const AgreementOptions& options) {
  if (prompts.empty()) return InvalidField("prompts", "has none", "at least 1");
  const int32_t vocabulary_size = models.target->info().vocabulary_size;
  if (models.draft != nullptr && models.draft->info().vocabulary_size > vocabulary_size) {
    return InvalidField("draft", absl::StrCat("has ", models.draft->info().vocabulary_size, " tokens"),
                        absl::StrCat(vocabulary_size, ", the target's"));
  }
  std::vector<std::vector<TokenId>> token_ids;
  for (const MeasuredPrompt& prompt : prompts) token_ids.push_back(prompt.token_ids);
  Judge judge(options, prompts.size(), vocabulary_size);
  const auto streams = ForceStreams(models, token_ids, options.max_tokens, options.batch,
                                    [&](const ForcedRow& row) { return judge.Take(row); });
  if (!streams.ok()) return streams.status();
  AgreementReport report;
  report.all.kind = "all";
  std::vector<std::vector<std::vector<TokenId>>> of_kind;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto kind = std::find_if(report.kinds.begin(), report.kinds.end(),
                             [&](const AgreementFigures& each) { return each.kind == prompts[i].kind; });
    if (kind == report.kinds.end()) {
      report.kinds.emplace_back().kind = prompts[i].kind;
      kind = report.kinds.end() - 1;
      of_kind.emplace_back();
    }
    AddPrompt(judge.rows()[i], options, &*kind);
    AddPrompt(judge.rows()[i], options, &report.all);
    of_kind[static_cast<size_t>(kind - report.kinds.begin())].push_back((*streams)[i]);
  }
  for (size_t k = 0; k < report.kinds.size(); ++k) report.kinds[k].variety = MeasureVariety(of_kind[k]);
  report.all.variety = MeasureVariety(*streams);
  return report;
}

}  // namespace mirrorsd::measure
