#include "workers/engine/sampling/sampling_state.h"

#include <utility>

namespace mirrorsd::engine {

SamplingState::SamplingState(const SamplingParameters& parameters,
                             std::vector<TokenId> end_token_ids, int32_t prompt_length)
    : parameters_(parameters),
      end_token_ids_(std::move(end_token_ids)),
      prompt_length_(prompt_length),
      has_penalties_(parameters.repetition_penalty != 1.0f ||
                     parameters.presence_penalty != 0.0f ||
                     parameters.frequency_penalty != 0.0f) {}

void SamplingState::Append(TokenId token) {
  if (has_penalties_) {
    Occurrences& seen = occurrences_[token];
    ++(length() < prompt_length_ ? seen.in_prompt : seen.in_output);
  }
  tokens_.push_back(token);
}

void SamplingState::Append(absl::Span<const TokenId> tokens) {
  for (const TokenId token : tokens) Append(token);
}

void SamplingState::Truncate(int32_t length) {
  while (this->length() > length && !tokens_.empty()) {
    const TokenId token = tokens_.back();
    tokens_.pop_back();
    if (!has_penalties_) continue;
    const auto it = occurrences_.find(token);
    Occurrences& seen = it->second;
    --(this->length() < prompt_length_ ? seen.in_prompt : seen.in_output);
    if (seen.in_prompt == 0 && seen.in_output == 0) occurrences_.erase(it);
  }
}

}  // namespace mirrorsd::engine
