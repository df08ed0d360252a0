#include "workers/draft/proposer.h"

#include <algorithm>
#include <limits>

namespace mirrorsd::workers {

std::optional<TokenId> Proposer::Scripted(DraftSequence* sequence,
                                          const engine::SamplingState& sampling, int32_t num_ids) {
  // A scheduler may ask before it has told the whole prompt.
  if (script_ == nullptr || sampling.length() < sampling.prompt_length()) return std::nullopt;
  const absl::Span<const TokenId> prompt = sampling.tokens().first(sampling.prompt_length());
  if (!sequence->script_stream.has_value()) {
    sequence->script_stream = script_->Find(prompt, sampling.parameters());
  }
  return script_->Propose(*sequence->script_stream, sampling.tokens().subspan(prompt.size()),
                          num_ids);
}

absl::StatusOr<absl::Span<const Candidate>> Proposer::Rank(DraftSequence* sequence, NodeId node,
                                                           absl::Span<float> row) {
  if (options_.max_proposed_tokens > 0) {
    row = row.first(std::min(row.size(), static_cast<size_t>(options_.max_proposed_tokens)));
  }
  const engine::SamplingState& sampling = sequence->StandAt(node);
  const int32_t noise_top =
      sampling.is_greedy() ? kKeptRanks : std::max(kKeptRanks, options_.noise_top);
  const absl::StatusOr<absl::Span<const Candidate>> ranked =
      sampler_.Rank(sampling, row, noise_top);
  if (!ranked.ok()) return ranked.status();
  ranks_.assign(ranked->begin(), ranked->end());
  const std::optional<TokenId> scripted =
      Scripted(sequence, sampling, static_cast<int32_t>(row.size()));
  if (scripted.has_value() && *scripted != ranks_.front().token) {
    // What the processing masks is still finite on the wire.
    const float score = std::max(row[*scripted], std::numeric_limits<float>::lowest());
    std::erase_if(ranks_, [&](const Candidate& one) { return one.token == *scripted; });
    ranks_.insert(ranks_.begin(), Candidate{*scripted, score});
  }
  ranks_.resize(std::min(ranks_.size(), static_cast<size_t>(kKeptRanks)));
  return absl::MakeConstSpan(ranks_);
}

}  // namespace mirrorsd::workers
