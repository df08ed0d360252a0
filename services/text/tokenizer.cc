#include "services/text/tokenizer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "common/sha256.h"
#include "services/text/model_file.h"
#include "services/text/rust_call.h"

namespace mirrorsd::text {
namespace {

uint32_t LoadLittleEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// The string under `key` of a JSON file that may be absent; broken files are others' to report.
std::string StringIn(const ModelFiles& files, const std::string& file, const char* key) {
  const auto bytes = files.ReadOptional(file, kMaxConfigFileBytes);
  if (!bytes.ok() || !bytes->has_value()) return "";
  const nlohmann::json json = nlohmann::json::parse(**bytes, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "";
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

EncodingRules FindRules(const ModelFiles& files) {
  if (StringIn(files, "config.json", "model_type") != "qwen2") return EncodingRules::kAsWritten;
  const std::string tokenizer_class =
      StringIn(files, "tokenizer_config.json", "tokenizer_class");
  for (const char* known : {"", "Qwen2Tokenizer", "Qwen2TokenizerFast", "TokenizersBackend",
                            "PreTrainedTokenizerFast"}) {
    if (tokenizer_class == known) return EncodingRules::kQwen2;
  }
  return EncodingRules::kAsWritten;
}

constexpr size_t kRecordHeaderBytes = 9;  // {u32 id, u8 flags, u32 size}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const ModelFiles& files) {
  absl::StatusOr<std::string> json = ReadModelFile(
      files, "tokenizer.json", kMaxTokenizerFileBytes,
      "to turn text into tokens (tokenizer.model alone is not enough: convert it with transformers)");
  if (!json.ok()) return json.status();
  return Parse(*json, files.Path("tokenizer.json"), FindRules(files));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Parse(std::string_view tokenizer_json,
                                                                  const std::string& name,
                                                                  EncodingRules rules) {
  MirrorsdTextTokenizer* handle = nullptr;
  RustBytes error;
  absl::Status status =
      FromRust(mirrorsd_text_tokenizer_load(RustData(tokenizer_json), tokenizer_json.size(),
                                            static_cast<int32_t>(rules), &handle, error.out()),
               error, {name, true});
  if (!status.ok()) return status;
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(handle));
  status = tokenizer->ReadVocabulary(name);
  if (!status.ok()) return status;
  // Some broken files load and fail on every text: better now than with the first request.
  const absl::StatusOr<std::vector<TokenId>> probe = tokenizer->Encode("a 1.", true, "encoding");
  if (!probe.ok()) return BadFile(name, probe.status().message());
  return tokenizer;
}

Tokenizer::~Tokenizer() { mirrorsd_text_tokenizer_free(handle_); }

absl::Status Tokenizer::ReadVocabulary(const std::string& name) {
  const MirrorsdTextDecodeScheme scheme = mirrorsd_text_decode_scheme(handle_);
  scheme_ = static_cast<DecodeScheme>(scheme.scheme);
  strip_leading_spaces_ = scheme.strip_leading_spaces;
  RustBytes records;
  RustBytes error;
  const absl::Status status =
      FromRust(mirrorsd_text_vocabulary(handle_, records.out(), error.out()), error, {name, true});
  if (!status.ok()) return status;
  Sha256 digest;
  for (std::string_view rest = records.view(); !rest.empty();) {
    CHECK_GE(rest.size(), kRecordHeaderBytes);
    const uint32_t id = LoadLittleEndian(rest);
    const uint8_t flags = static_cast<uint8_t>(rest[4]);
    const uint32_t size = LoadLittleEndian(rest.substr(5));
    CHECK_LE(size, rest.size() - kRecordHeaderBytes);
    const std::string_view bytes = rest.substr(kRecordHeaderBytes, size);
    const char special = (flags & MIRRORSD_TEXT_TOKEN_SPECIAL) != 0;
    digest.Update(rest.substr(0, 4));
    digest.Update(&special, 1);
    digest.Update(rest.substr(5, 4));
    digest.Update(bytes);
    entries_.resize(id + 1);
    entries_[id] = {static_cast<uint32_t>(bytes_.size()), size, true, special != 0,
                    (flags & MIRRORSD_TEXT_TOKEN_BYTE) != 0};
    bytes_.append(bytes);
    rest.remove_prefix(kRecordHeaderBytes + size);
  }
  if (entries_.empty()) return BadFile(name, "the vocabulary is empty");
  fingerprint_ = digest.FinishHex();
  return absl::OkStatus();
}

const Tokenizer::Entry* Tokenizer::Find(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= entries_.size()) return nullptr;
  const Entry& entry = entries_[id];
  return entry.exists ? &entry : nullptr;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  const Entry* entry = Find(id);
  return entry != nullptr && entry->special;
}

std::string_view Tokenizer::TokenBytes(TokenId id) const {
  const Entry* entry = Find(id);
  if (entry == nullptr) return {};
  return std::string_view(bytes_).substr(entry->offset, entry->size);
}

std::optional<TokenId> Tokenizer::FindSpecialToken(std::string_view text) const {
  for (TokenId id = 0; id < vocabulary_size(); ++id) {
    if (entries_[id].special && TokenBytes(id) == text) return id;
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens,
                                                       const std::string& field) const {
  if (text.size() > kMaxTextBytes) {
    return InvalidField(field, absl::StrCat("has ", text.size(), " bytes"),
                        absl::StrCat(kMaxTextBytes, " bytes"));
  }
  MirrorsdTextIds ids{nullptr, 0};
  RustBytes error;
  const absl::Status status =
      FromRust(mirrorsd_text_encode(handle_, RustData(text), text.size(), add_special_tokens, &ids,
                                    error.out()),
               error, {field});
  if (!status.ok()) return status;
  std::vector<TokenId> token_ids(ids.data, ids.data + ids.size);
  mirrorsd_text_ids_free(ids);
  return token_ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const TokenId> ids,
                                              bool skip_special_tokens) const {
  if (ids.size() > kMaxDecodeTokens) {
    return InvalidField("token_ids", absl::StrCat("has ", ids.size(), " ids"),
                        absl::StrCat(kMaxDecodeTokens, " ids"));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) {
      return InvalidField(absl::StrCat("token_ids[", i, "]"), absl::StrCat(ids[i], " is negative"),
                          absl::StrCat("0 to ", vocabulary_size() - 1));
    }
  }
  const std::vector<uint32_t> unsigned_ids(ids.begin(), ids.end());
  RustBytes text;
  RustBytes error;
  const absl::Status status =
      FromRust(mirrorsd_text_decode(handle_, unsigned_ids.data(), unsigned_ids.size(),
                                    skip_special_tokens, text.out(), error.out()),
               error, {"token_ids"});
  if (!status.ok()) return status;
  return std::string(text.view());
}

}  // namespace mirrorsd::text
