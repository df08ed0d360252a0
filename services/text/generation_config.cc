#include "services/text/generation_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/text/model_file.h"

namespace mirrorsd::text {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokenId = int64_t{1} << 24;
constexpr size_t kMaxEndTokens = 256;  // what a request to the scheduler can carry

// Reads keys of one JSON object and remembers the first thing that was wrong.
class Reader {
 public:
  Reader(const Json& json, const std::string& name) : json_(json), name_(name) {}

  const absl::Status& status() const { return status_; }

  std::optional<float> Number(const char* key, double low, bool low_is_allowed, double high) {
    const Json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    const std::string range =
        low_is_allowed ? absl::StrCat(low, " to ", high)
                       : absl::StrCat("above ", low, ", at most ", high);
    // As it will be used: a double above the bound may be none as a float.
    const float number = value->is_number() ? static_cast<float>(value->get<double>()) : 0.0f;
    if (!value->is_number() || !(number <= high) ||
        !(low_is_allowed ? number >= low : number > low)) {
      Refuse(key, *value, range);
      return std::nullopt;
    }
    return number;
  }

  std::optional<int32_t> Integer(const char* key, int64_t low, int64_t high) {
    const Json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    return AsInteger(key, *value, low, high);
  }

  std::optional<bool> Boolean(const char* key) {
    const Json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) {
      Refuse(key, *value, "true or false");
      return std::nullopt;
    }
    return value->get<bool>();
  }

  // One id or a list of ids.
  std::vector<TokenId> TokenIds(const char* key) {
    std::vector<TokenId> ids;
    const Json* value = Find(key);
    if (value == nullptr) return ids;
    if (value->is_array() && value->size() > kMaxEndTokens) {
      Refuse(key, value->size(), absl::StrCat(kMaxEndTokens, " ids"));
      return ids;
    }
    const Json list = value->is_array() ? *value : Json::array({*value});
    for (const Json& item : list) {
      const std::optional<int32_t> id = AsInteger(key, item, 0, kMaxTokenId);
      if (!id.has_value()) return {};
      if (std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
    }
    return ids;
  }

 private:
  const Json* Find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  std::optional<int32_t> AsInteger(const char* key, const Json& value, int64_t low, int64_t high) {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) &&
                      value.get<int64_t>() >= low && value.get<int64_t>() <= high;
    if (!fits) {
      Refuse(key, value, absl::StrCat("an integer, ", low, " to ", high));
      return std::nullopt;
    }
    return static_cast<int32_t>(value.get<int64_t>());
  }

  void Refuse(const char* key, const Json& value, const std::string& limit) {
    if (!status_.ok()) return;
    std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (shown.size() > 64) shown = shown.substr(0, 64) + "...";
    status_ = BadFile(name_, absl::StrCat(key, " is ", shown), limit);
  }

  const Json& json_;
  const std::string& name_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json,
                                                       const std::string& name) {
  Json parsed;
  try {
    parsed = Json::parse(json);
  } catch (const Json::exception& error) {
    return BadFile(name, absl::StrCat("not JSON: ", error.what()));
  }
  if (!parsed.is_object()) return BadFile(name, "must be a JSON object");

  Reader reader(parsed, name);
  GenerationConfig config;
  config.end_token_ids = reader.TokenIds("eos_token_id");
  config.begin_token_id = reader.Integer("bos_token_id", 0, kMaxTokenId);
  config.temperature = reader.Number("temperature", 0, true, 100);
  config.top_k = reader.Integer("top_k", -1, INT32_MAX);
  if (config.top_k == -1) config.top_k = 0;
  config.top_p = reader.Number("top_p", 0, false, 1);
  config.min_p = reader.Number("min_p", 0, true, 1);
  config.repetition_penalty = reader.Number("repetition_penalty", 0, false, 100);
  config.max_new_tokens = reader.Integer("max_new_tokens", 1, INT32_MAX);
  if (reader.Boolean("do_sample") == false) config.temperature = 0.0f;
  if (!reader.status().ok()) return reader.status();
  return config;
}

absl::StatusOr<GenerationConfig> LoadGenerationConfig(const ModelFiles& files) {
  GenerationConfig config;
  constexpr char kName[] = "generation_config.json";
  absl::StatusOr<std::optional<std::string>> bytes =
      files.ReadOptional(kName, kMaxConfigFileBytes);
  if (!bytes.ok()) return bytes.status();
  if (bytes->has_value()) {
    absl::StatusOr<GenerationConfig> parsed =
        ParseGenerationConfig(**bytes, files.Path(kName));
    if (!parsed.ok()) return parsed.status();
    config = *std::move(parsed);
  }
  if (!config.end_token_ids.empty() && config.begin_token_id.has_value()) return config;

  absl::StatusOr<std::optional<std::string>> model_bytes =
      files.ReadOptional("config.json", kMaxConfigFileBytes);
  if (!model_bytes.ok()) return model_bytes.status();
  if (!model_bytes->has_value()) return config;
  const absl::StatusOr<GenerationConfig> model =
      ParseGenerationConfig(**model_bytes, files.Path("config.json"));
  if (!model.ok()) return model.status();
  if (config.end_token_ids.empty()) config.end_token_ids = model->end_token_ids;
  if (!config.begin_token_id.has_value()) config.begin_token_id = model->begin_token_id;
  return config;
}

}  // namespace mirrorsd::text
