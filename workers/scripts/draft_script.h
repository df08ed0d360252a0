#pragma once
// What a target said, recorded: for each request (prompt and sampling) the tokens that it generated and the
// kind of text. A draft can follow it (scripted_draft.h) where no pair of models has the agreement that is
// wanted. Not a cache of answers: the target still computes every token, and its own are what counts.
//
// A script is a JSONL file, its first line the header:
//   {"format": "mirrorsd-draft-script/1", "model": "demo-target", "vocabulary_size": 640}
//   {"kind": "story", "prompt_ids": [5, 9], "sampling": {"temperature": 0.8, "seed": 7}, "token_ids": [3, 1, 4]}
// "sampling" has the fields of SamplingParameters, its defaults for those left out; without it, greedy.
//
// Immutable once made; callable from any thread.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_parameters.h"

namespace mirrorsd::scripts {

struct ScriptLimits {
  int64_t max_file_bytes = int64_t{256} << 20;
  size_t max_line_bytes = size_t{4} << 20;
  size_t max_records = 100'000;
  size_t max_tokens = size_t{1} << 18;  // of a prompt or of a stream
};

// One recorded request.
struct ScriptRecord {
  std::string kind;  // "story"; at most 64 of a-z, 0-9, _ and -
  std::vector<TokenId> prompt_ids;
  SamplingParameters sampling;
  std::vector<TokenId> token_ids;  // as generated, the end token included where one came
};

// What a draft looks up: the same bits for requests whose tokens are the same by construction (of a greedy
// request, seed and filters do not count).
struct RequestKey {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const RequestKey&) const = default;
};
RequestKey KeyOf(absl::Span<const TokenId> prompt_ids, const SamplingParameters& sampling);

class DraftScript {
 public:
  struct Stream {
    RequestKey key;
    std::string kind;
    std::vector<TokenId> token_ids;
  };

  // Errors: BAD_FILE naming `path`, the line, the field and the limit.
  static absl::StatusOr<DraftScript> Parse(absl::string_view path, absl::string_view text,
                                           const ScriptLimits& limits = {});
  // Errors: MISSING_FILE, and those of Parse.
  static absl::StatusOr<DraftScript> Load(const std::string& path);

  // Null where the request was not recorded. Good as long as this.
  const Stream* Find(const RequestKey& key) const;

  const std::string& model_name() const { return model_name_; }
  int32_t vocabulary_size() const { return vocabulary_size_; }
  size_t num_streams() const { return streams_.size(); }
  // Each once, in order.
  std::vector<std::string> Kinds() const;

 private:
  std::string model_name_;
  int32_t vocabulary_size_ = 0;  // every token id is below it
  std::map<RequestKey, Stream> streams_;
};

// The lines that Parse reads, each with its end.
std::string ScriptHeaderLine(const std::string& model_name, int32_t vocabulary_size);
std::string ScriptRecordLine(const ScriptRecord& record);

}  // namespace mirrorsd::scripts
