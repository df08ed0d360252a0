#include "workers/scripts/draft_script.h"

#include <bit>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/sha256.h"
#include "workers/engine/model/loader/strict_json.h"
#include "workers/engine/sampling/sampling_state.h"
#include "workers/engine/tensor/mapped_file.h"
#include "workers/scripts/script_line.h"

namespace mirrorsd::scripts {
namespace {

using nlohmann::json;

// Appends the value's bytes, lowest first, the same on every machine.
template <typename T>
void Put(std::string* bytes, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes->push_back(static_cast<char>(value >> (8 * i)));
}

void PutFloat(std::string* bytes, float value) {
  // -0 is 0.
  Put(bytes, std::bit_cast<uint32_t>(value == 0 ? 0.0f : value));
}

// The parameters that decide which tokens come, as bytes.
std::string SamplingBytes(const SamplingParameters& sampling) {
  std::string bytes;
  const bool greedy = sampling.temperature <= engine::kGreedyTemperature;
  bytes.push_back(greedy ? 1 : 0);
  if (!greedy) {
    PutFloat(&bytes, sampling.temperature);
    Put(&bytes, static_cast<uint32_t>(sampling.top_k));
    PutFloat(&bytes, sampling.top_p);
    PutFloat(&bytes, sampling.min_p);
    Put(&bytes, sampling.seed);
    Put(&bytes, sampling.sample_index);
  }
  PutFloat(&bytes, sampling.repetition_penalty);
  PutFloat(&bytes, sampling.presence_penalty);
  PutFloat(&bytes, sampling.frequency_penalty);
  Put(&bytes, static_cast<uint32_t>(sampling.min_tokens));
  Put(&bytes, static_cast<uint32_t>(sampling.logit_bias.size()));
  for (const auto& [token, bias] : sampling.logit_bias) {
    Put(&bytes, static_cast<uint32_t>(token));
    PutFloat(&bytes, bias);
  }
  return bytes;
}

uint64_t FromHex(absl::string_view hex) {
  uint64_t value = 0;
  for (const char c : hex) value = value << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  return value;
}

}  // namespace

RequestKey KeyOf(absl::Span<const TokenId> prompt_ids, const SamplingParameters& sampling) {
  std::string bytes = SamplingBytes(sampling);
  for (const TokenId id : prompt_ids) Put(&bytes, static_cast<uint32_t>(id));
  const std::string hex = Sha256Hex(bytes);
  return {.high = FromHex(absl::string_view(hex).substr(0, 16)),
          .low = FromHex(absl::string_view(hex).substr(16, 16))};
}

absl::StatusOr<DraftScript> DraftScript::Parse(absl::string_view path, absl::string_view text,
                                               const ScriptLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_file_bytes) {
    return BadFile(path, absl::StrCat("has ", text.size(), " bytes"),
                   absl::StrCat("at most ", limits.max_file_bytes));
  }
  DraftScript script;
  std::map<RequestKey, int64_t> line_of;
  bool has_header = false;
  int64_t line_number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const absl::string_view line = text.substr(0, end);
    text.remove_prefix(end == absl::string_view::npos ? text.size() : end + 1);
    const std::string place = absl::StrCat(path, ":", ++line_number);
    if (line.empty()) continue;
    if (!has_header) {
      absl::Status status = ParseHeaderLine(place, line, &script.model_name_, &script.vocabulary_size_);
      if (!status.ok()) return status;
      has_header = true;
      continue;
    }
    if (script.streams_.size() >= limits.max_records) {
      return BadFile(place, "is one record too many", absl::StrCat(limits.max_records, " records"));
    }
    absl::StatusOr<ScriptRecord> record =
        ParseRecordLine(place, line, script.vocabulary_size_, limits);
    if (!record.ok()) return record.status();
    const RequestKey key = KeyOf(record->prompt_ids, record->sampling);
    const auto [first, is_new] = line_of.emplace(key, line_number);
    if (!is_new) {
      return BadFile(place, absl::StrCat("is the same request as line ", first->second));
    }
    script.streams_[key] = {key, std::move(record->kind), std::move(record->token_ids)};
  }
  if (!has_header) return BadFile(path, "has no header line");
  if (script.streams_.empty()) return BadFile(path, "has no record");
  return script;
}

absl::StatusOr<DraftScript> DraftScript::Load(const std::string& path) {
  const ScriptLimits limits;
  absl::StatusOr<engine::MappedFile> file = engine::MappedFile::Open(path, limits.max_file_bytes);
  if (!file.ok()) return file.status();
  const absl::Span<const uint8_t> bytes = file->bytes();
  return Parse(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, limits);
}

const DraftScript::Stream* DraftScript::Find(const RequestKey& key) const {
  const auto it = streams_.find(key);
  return it == streams_.end() ? nullptr : &it->second;
}

std::vector<std::string> DraftScript::Kinds() const {
  std::set<std::string> kinds;
  for (const auto& [key, stream] : streams_) kinds.insert(stream.kind);
  return {kinds.begin(), kinds.end()};
}

}  // namespace mirrorsd::scripts
