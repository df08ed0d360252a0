#pragma once
// What a draft proposes where it follows a recorded stream (draft_script.h) with an agreement that was set:
// each proposed token equals the recorded one with probability X of its kind, otherwise it is another one,
// drawn evenly from the rest of the vocabulary. Both from the counter noise of (seed, request, output position):
// the draft is of one mind about a position, however often and in whatever branch it is asked.
//
// Only a path that equals the stream so far is on it. Where a branch has left (the draft's own wrong guess, a
// wrong root), at the stream's end and for a request that was not recorded, the model's own token stands.
// The target decides all the same: nothing here can change a token of an answer.
//
// Thread rule: the session's thread; counts() from any.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "workers/scripts/draft_script.h"

namespace mirrorsd::scripts {

// How often a proposal equals the recorded token, by kind.
class Agreement {
 public:
  // "0.8", "story=0.9,json=0.6" or "0.8,json=0.6": a number alone is for the kinds that are not named.
  // Errors: INVALID_FIELD naming `field`, the part and the limit.
  static absl::StatusOr<Agreement> Parse(absl::string_view field, absl::string_view text);
  static Agreement Of(double share) {
    Agreement agreement;
    agreement.others_ = share;
    return agreement;
  }

  // None where neither the kind nor a number for the rest was given.
  std::optional<double> For(const std::string& kind) const;
  const std::map<std::string, double>& by_kind() const { return by_kind_; }

 private:
  std::map<std::string, double> by_kind_;
  std::optional<double> others_;
};

// What came of every token that was proposed.
struct ScriptCounts {
  int64_t num_agreed = 0;      // the recorded token
  int64_t num_disagreed = 0;   // another one, on purpose
  int64_t num_left = 0;        // the model's own: the branch had left the stream
  int64_t num_past_end = 0;    // the model's own: the stream had ended
  int64_t num_unscripted = 0;  // the model's own: the request was not recorded
};

struct ScriptedDraftOptions {
  std::string path;                // the JSONL file
  std::string agreement = "1";     // as Agreement::Parse
  uint64_t seed = 0;
};

class ScriptedDraft {
 public:
  // Errors: INVALID_FIELD where a kind of the script has no agreement, or one that was named is not in it.
  static absl::StatusOr<std::unique_ptr<ScriptedDraft>> Create(DraftScript script,
                                                               Agreement agreement, uint64_t seed);
  // Loads the file. `vocabulary_size` is the draft's.
  // Errors: those of DraftScript::Load, Agreement::Parse and Create; INVALID_FIELD for a script of a larger
  //         vocabulary than the draft's.
  static absl::StatusOr<std::unique_ptr<ScriptedDraft>> Load(const ScriptedDraftOptions& options,
                                                             int32_t vocabulary_size);

  // The stream of a request; null where it was not recorded. Good as long as this.
  const DraftScript::Stream* Find(absl::Span<const TokenId> prompt_ids,
                                  const SamplingParameters& sampling) const {
    return script_.Find(KeyOf(prompt_ids, sampling));
  }

  // What to propose after `output` (prompt excluded), and counts it; none: the model's own token. `stream` may
  // be null. Ids at or beyond `num_ids` are never proposed.
  std::optional<TokenId> Propose(const DraftScript::Stream* stream, absl::Span<const TokenId> output,
                                 int32_t num_ids);

  const DraftScript& script() const { return script_; }
  ScriptCounts counts() const;

 private:
  ScriptedDraft(DraftScript script, std::map<std::string, double> shares, uint64_t seed)
      : script_(std::move(script)), shares_(std::move(shares)), seed_(seed) {}

  std::optional<TokenId> Count(int64_t ScriptCounts::*count, std::optional<TokenId> token);

  const DraftScript script_;
  const std::map<std::string, double> shares_;  // of every kind in the script
  const uint64_t seed_;
  mutable std::mutex mutex_;
  ScriptCounts counts_;  // guarded by mutex_
};

}  // namespace mirrorsd::scripts
