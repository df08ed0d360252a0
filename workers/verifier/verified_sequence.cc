#include "workers/verifier/verified_sequence.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/session/worker_hello.h"

namespace mirrorsd::workers {

VerifiedSequences::VerifiedSequences(engine::BlockPool* pool, const Limits& limits)
    : pool_(pool), limits_(limits) {}

void VerifiedSequences::Start(const StartSequence& command) {
  if (static_cast<int32_t>(sequences_.size()) >= limits_.max_sequences) return;
  VerifiedSequence sequence{.sampling = engine::SamplingState(
                                command.sampling, command.end_token_ids, command.prompt_length),
                            .cache = engine::SequenceCache(pool_),
                            .total_length = command.total_length};
  if (command.prompt_length < 1 || command.total_length < command.prompt_length ||
      command.total_length > limits_.context_length) {
    sequence.refused = WorkerError{
        "BAD_LENGTH", absl::StrCat("a prompt of ", command.prompt_length, " and a total of ",
                                   command.total_length, " tokens do not fit 1 <= prompt <= ",
                                   "total <= ", limits_.context_length)};
  }
  sequences_.emplace(command.sequence_id, std::move(sequence));
}

std::optional<SequenceStarted> VerifiedSequences::Append(const AppendTokens& command) {
  VerifiedSequence* sequence = Find(command.sequence_id);
  if (sequence == nullptr || sequence->started || sequence->refused.has_value()) {
    return std::nullopt;
  }
  const int32_t length = sequence->committed_length();
  if (command.offset < length) return std::nullopt;
  const int64_t end = int64_t{command.offset} + static_cast<int64_t>(command.token_ids.size());
  if (command.offset > length) {
    sequence->refused = WorkerError{"TOKEN_GAP", absl::StrCat("tokens at ", command.offset,
                                                              " after ", length, " of them")};
  } else if (end > sequence->total_length) {
    sequence->refused = WorkerError{"BAD_LENGTH", absl::StrCat("tokens up to ", end, " of ",
                                                               sequence->total_length)};
  } else if (!IsInVocabulary(command.token_ids, limits_.vocabulary_size)) {
    sequence->refused = WorkerError{
        "BAD_TOKEN", absl::StrCat("a token id outside 0 to ", limits_.vocabulary_size - 1)};
  }
  if (sequence->refused.has_value()) return std::nullopt;
  sequence->sampling.Append(command.token_ids);
  if (sequence->committed_length() < sequence->total_length) return std::nullopt;
  sequence->started = true;
  if (limits_.prefix_cache) sequence->cache.Start(sequence->sampling.tokens());
  return SequenceStarted{command.sequence_id, sequence->kv_length()};
}

bool VerifiedSequences::End(SequenceId sequence_id) {
  return sequences_.erase(sequence_id) > 0;
}

VerifiedSequence* VerifiedSequences::Find(SequenceId sequence_id) {
  const auto it = sequences_.find(sequence_id);
  return it == sequences_.end() ? nullptr : &it->second;
}

}  // namespace mirrorsd::workers
