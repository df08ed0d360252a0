#include "workers/scripts/script_line.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error.h"
#include "workers/engine/model/loader/strict_json.h"

namespace mirrorsd::scripts {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "mirrorsd-draft-script/1";
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxKindBytes = 64;
constexpr size_t kMaxBiases = 1024;
constexpr int32_t kMaxVocabulary = 1 << 24;

std::string Shown(const std::string& key) {
  return key.size() <= kMaxKindBytes ? key : key.substr(0, kMaxKindBytes) + "...";
}

// Reads one object; the first thing that is wrong is kept, and later calls return something harmless.
class Reader {
 public:
  explicit Reader(absl::string_view place) : place_(place) {}

  const absl::Status& status() const { return status_; }

  void Fail(absl::string_view field, absl::string_view message, absl::string_view limit = "") {
    if (status_.ok()) status_ = BadFile(place_, absl::StrCat(field, " ", message), limit);
  }

  void OnlyKeys(const json& object, absl::string_view prefix,
                std::initializer_list<const char*> keys) {
    for (const auto& [key, ignored] : object.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        return Fail(absl::StrCat(prefix, Shown(key)), "is not known", absl::StrJoin(keys, ", "));
      }
    }
  }

  const json* Need(const json& object, const char* key) {
    const auto it = object.find(key);
    if (it != object.end()) return &*it;
    Fail(key, "is missing");
    return nullptr;
  }

  uint64_t Unsigned(const json& value, absl::string_view field, uint64_t lowest,
                    uint64_t highest) {
    if (value.is_number_unsigned()) {
      const uint64_t number = value.get<uint64_t>();
      if (number >= lowest && number <= highest) return number;
    }
    Fail(field, "is no whole number in range", absl::StrCat(lowest, " to ", highest));
    return lowest;
  }

  float Float(const json& value, absl::string_view field, double lowest, double highest) {
    if (value.is_number()) {
      const double number = value.get<double>();
      if (number >= lowest && number <= highest) return static_cast<float>(number);
    }
    Fail(field, "is no number in range", absl::StrCat(lowest, " to ", highest));
    return static_cast<float>(lowest);
  }

  std::vector<TokenId> Ids(const json& object, const char* key, int32_t vocabulary_size,
                           size_t max_ids) {
    const json* list = Need(object, key);
    if (list == nullptr) return {};
    if (!list->is_array() || list->empty() || list->size() > max_ids) {
      Fail(key, "is no list of token ids", absl::StrCat("1 to ", max_ids, " ids"));
      return {};
    }
    std::vector<TokenId> ids;
    ids.reserve(list->size());
    for (const json& id : *list) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocabulary_size)) {
        Fail(absl::StrCat(key, "[", ids.size(), "]"), "is no token id",
             absl::StrCat("0 to ", vocabulary_size - 1));
        return {};
      }
      ids.push_back(static_cast<TokenId>(id.get<uint64_t>()));
    }
    return ids;
  }

 private:
  absl::string_view place_;
  absl::Status status_;
};

void ReadBias(Reader* reader, const json& value, int32_t vocabulary_size,
              SamplingParameters* sampling) {
  if (!value.is_object() || value.size() > kMaxBiases) {
    return reader->Fail("sampling.logit_bias", "is no object of id: number",
                        absl::StrCat(kMaxBiases, " entries"));
  }
  for (const auto& [key, bias] : value.items()) {
    const std::string field = absl::StrCat("sampling.logit_bias.", Shown(key));
    int32_t id = 0;
    // The id's only spelling, so that no two keys are the same one.
    if (!absl::SimpleAtoi(key, &id) || absl::StrCat(id) != key || id < 0 || id >= vocabulary_size) {
      return reader->Fail(field, "is no token id", absl::StrCat("0 to ", vocabulary_size - 1));
    }
    sampling->logit_bias.emplace_back(id, reader->Float(bias, field, -100, 100));
  }
  std::sort(sampling->logit_bias.begin(), sampling->logit_bias.end());
}

SamplingParameters ReadSampling(Reader* reader, const json& object, int32_t vocabulary_size) {
  SamplingParameters sampling;
  const auto found = object.find("sampling");
  if (found == object.end()) {
    sampling.temperature = 0;
    return sampling;
  }
  if (!found->is_object()) return reader->Fail("sampling", "is no object"), sampling;
  reader->OnlyKeys(*found, "sampling.",
                   {"temperature", "top_k", "top_p", "min_p", "repetition_penalty",
                    "presence_penalty", "frequency_penalty", "min_tokens", "logit_bias", "seed",
                    "sample_index"});
  const auto number = [&](const char* key, double lowest, double highest, float* into) {
    if (const auto it = found->find(key); it != found->end()) {
      *into = reader->Float(*it, absl::StrCat("sampling.", key), lowest, highest);
    }
  };
  const auto whole = [&](const char* key, uint64_t highest, auto* into) {
    if (const auto it = found->find(key); it != found->end()) {
      *into = static_cast<std::remove_pointer_t<decltype(into)>>(
          reader->Unsigned(*it, absl::StrCat("sampling.", key), 0, highest));
    }
  };
  constexpr uint64_t kInt32Max = std::numeric_limits<int32_t>::max();
  number("temperature", 0, 100, &sampling.temperature);
  whole("top_k", kInt32Max, &sampling.top_k);
  number("top_p", 1e-30, 1, &sampling.top_p);
  number("min_p", 0, 1, &sampling.min_p);
  number("repetition_penalty", 1e-30, 100, &sampling.repetition_penalty);
  number("presence_penalty", -2, 2, &sampling.presence_penalty);
  number("frequency_penalty", -2, 2, &sampling.frequency_penalty);
  whole("min_tokens", kInt32Max, &sampling.min_tokens);
  whole("seed", std::numeric_limits<uint64_t>::max(), &sampling.seed);
  whole("sample_index", std::numeric_limits<uint32_t>::max(), &sampling.sample_index);
  if (const auto bias = found->find("logit_bias"); bias != found->end()) {
    ReadBias(reader, *bias, vocabulary_size, &sampling);
  }
  return sampling;
}

absl::StatusOr<json> ParseObject(absl::string_view place, absl::string_view line,
                                 const engine::JsonLimits& limits) {
  absl::StatusOr<json> object = engine::ParseStrictJson(place, line, limits);
  if (object.ok() && !object->is_object()) return BadFile(place, "is no object");
  return object;
}

}  // namespace

bool IsKind(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxKindBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
         });
}

absl::Status ParseHeaderLine(absl::string_view place, absl::string_view line,
                             std::string* model_name, int32_t* vocabulary_size) {
  absl::StatusOr<json> object =
      ParseObject(place, line, {.max_bytes = 4096, .max_depth = 1, .max_values = 16});
  if (!object.ok()) return object.status();
  Reader reader(place);
  const json* format = reader.Need(*object, "format");
  if (format != nullptr && *format != kFormat) reader.Fail("format", "is another one", kFormat);
  reader.OnlyKeys(*object, "", {"format", "model", "vocabulary_size"});
  if (const json* model = reader.Need(*object, "model")) {
    if (!model->is_string() || model->get_ref<const std::string&>().size() > kMaxNameBytes) {
      reader.Fail("model", "is no name", absl::StrCat("a string of at most ", kMaxNameBytes, " bytes"));
    } else {
      *model_name = model->get<std::string>();
    }
  }
  if (const json* size = reader.Need(*object, "vocabulary_size")) {
    *vocabulary_size =
        static_cast<int32_t>(reader.Unsigned(*size, "vocabulary_size", 1, kMaxVocabulary));
  }
  return reader.status();
}

absl::StatusOr<ScriptRecord> ParseRecordLine(absl::string_view place, absl::string_view line,
                                             int32_t vocabulary_size, const ScriptLimits& limits) {
  absl::StatusOr<json> object = ParseObject(
      place, line,
      {.max_bytes = limits.max_line_bytes, .max_depth = 3, .max_values = 2 * limits.max_tokens + 4096});
  if (!object.ok()) return object.status();
  Reader reader(place);
  reader.OnlyKeys(*object, "", {"kind", "prompt_ids", "sampling", "token_ids"});
  ScriptRecord record;
  if (const json* kind = reader.Need(*object, "kind")) {
    if (kind->is_string() && IsKind(kind->get_ref<const std::string&>())) {
      record.kind = kind->get<std::string>();
    } else {
      reader.Fail("kind", "is no kind", "1 to 64 of a-z, 0-9, _ and -");
    }
  }
  record.prompt_ids = reader.Ids(*object, "prompt_ids", vocabulary_size, limits.max_tokens);
  record.token_ids = reader.Ids(*object, "token_ids", vocabulary_size, limits.max_tokens);
  record.sampling = ReadSampling(&reader, *object, vocabulary_size);
  if (!reader.status().ok()) return reader.status();
  return record;
}

std::string ScriptHeaderLine(const std::string& model_name, int32_t vocabulary_size) {
  nlohmann::ordered_json line = {{"format", kFormat}};
  line["model"] = model_name.substr(0, kMaxNameBytes);
  line["vocabulary_size"] = vocabulary_size;
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string ScriptRecordLine(const ScriptRecord& record) {
  nlohmann::ordered_json line = {{"kind", record.kind}};
  line["prompt_ids"] = record.prompt_ids;
  const SamplingParameters& sampling = record.sampling;
  nlohmann::ordered_json written = {
      {"temperature", sampling.temperature},
      {"top_k", std::max(0, sampling.top_k)},
      {"top_p", sampling.top_p},
      {"min_p", sampling.min_p},
      {"repetition_penalty", sampling.repetition_penalty},
      {"presence_penalty", sampling.presence_penalty},
      {"frequency_penalty", sampling.frequency_penalty},
      {"min_tokens", sampling.min_tokens},
      {"seed", sampling.seed},
      {"sample_index", sampling.sample_index}};
  if (!sampling.logit_bias.empty()) {
    nlohmann::ordered_json biases = nlohmann::ordered_json::object();
    for (const auto& [id, bias] : sampling.logit_bias) biases[absl::StrCat(id)] = bias;
    written["logit_bias"] = std::move(biases);
  }
  line["sampling"] = std::move(written);
  line["token_ids"] = record.token_ids;
  return line.dump() + "\n";
}

}  // namespace mirrorsd::scripts
