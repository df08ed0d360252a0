#pragma once
// A model's tokenizer, from tokenizer.json as Hugging Face's `tokenizers` reads it: text to token
// ids and back, what each token stands for, and the fingerprint of the vocabulary. Not the chat
// template (chat_template.h), and not for streams: incremental_decoder.h gives text token by token.
// Immutable; every method may be called from any number of threads.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "services/text/model_file.h"

extern "C" struct MirrorsdTextTokenizer;

namespace mirrorsd::text {

inline constexpr size_t kMaxTextBytes = size_t{16} << 20;  // of one text to encode
inline constexpr size_t kMaxDecodeTokens = size_t{4} << 20;

// How tokens join to text; see text_abi.h.
enum class DecodeScheme : uint8_t { kWindowed = 0, kBytes = 1, kByteRuns = 2 };

// Which parts of tokenizer.json hold. transformers takes only vocabulary and merges of a Qwen2
// model and sets normalizer and word splitting itself; files of the Qwen team say the same, others
// may not.
enum class EncodingRules : uint8_t { kAsWritten = 0, kQwen2 = 1 };

class Tokenizer {
 public:
  // Reads tokenizer.json of `files`, by kQwen2 rules if config.json says model_type "qwen2" and
  // tokenizer_config.json names no tokenizer_class of another family.
  // Errors:  no such folder or file, a file that is not a tokenizer, each naming its path
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const ModelFiles& files);

  // The same from the file's bytes; `name` stands for the file in messages.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Parse(
      std::string_view tokenizer_json, const std::string& name = "tokenizer.json",
      EncodingRules rules = EncodingRules::kAsWritten);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Token ids of `text`. Special tokens written out in the text are recognised, as in the
  // reference. `add_special_tokens` adds what the post-processor adds to a plain prompt (a begin
  // token and the like); a rendered chat already has it and is encoded without.
  // Errors:  InvalidField(field) for a text that is not UTF-8 or above kMaxTextBytes
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, bool add_special_tokens,
                                              const std::string& field = "text") const;

  // The text of `ids`, broken UTF-8 as U+FFFD. Ids below the model's padded vocabulary size that no
  // token has yield nothing, as in the reference.
  // Errors:  InvalidField("token_ids") for a negative id or more than kMaxDecodeTokens
  absl::StatusOr<std::string> Decode(absl::Span<const TokenId> ids, bool skip_special_tokens) const;

  // SHA-256, in hexadecimal, over all tokens by increasing id: {u32 id, u8 special, u32 size,
  // bytes}. Equal for two models exactly if an id means the same text to both.
  const std::string& VocabularyFingerprint() const { return fingerprint_; }

  // The highest id plus one. A model's own vocabulary_size may be larger (padding).
  int32_t vocabulary_size() const { return static_cast<int32_t>(entries_.size()); }

  bool Contains(TokenId id) const { return Find(id) != nullptr; }
  bool IsSpecial(TokenId id) const;

  // What the token adds to a text, before the bytes of several tokens are read as UTF-8; empty for
  // an id that no token has.
  std::string_view TokenBytes(TokenId id) const;

  // The special token that is written so, e.g. "</s>".
  std::optional<TokenId> FindSpecialToken(std::string_view text) const;

 private:
  friend class IncrementalDecoder;

  struct Entry {
    uint32_t offset = 0;  // into bytes_
    uint32_t size = 0;
    bool exists = false;
    bool special = false;
    bool byte_fallback = false;
  };

  explicit Tokenizer(MirrorsdTextTokenizer* handle) : handle_(handle) {}

  absl::Status ReadVocabulary(const std::string& name);
  const Entry* Find(TokenId id) const;

  MirrorsdTextTokenizer* const handle_;
  DecodeScheme scheme_ = DecodeScheme::kWindowed;
  uint32_t strip_leading_spaces_ = 0;
  std::vector<Entry> entries_;  // [id]
  std::string bytes_;
  std::string fingerprint_;
};

}  // namespace mirrorsd::text
