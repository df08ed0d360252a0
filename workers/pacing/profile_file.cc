#include "workers/pacing/profile_file.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error.h"
#include "workers/engine/model/loader/strict_json.h"
#include "workers/engine/tensor/mapped_file.h"
#include "workers/pacing/builtin_profiles.h"

namespace mirrorsd::pacing {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "mirrorsd-device-profile/1";
constexpr size_t kMaxFileBytes = 256 << 10;
constexpr size_t kMaxPoints = 64;
constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kMaxNameBytes = 64;
constexpr int32_t kMaxLayers = 1024;
constexpr int32_t kMaxTableRows = 1 << 16;
constexpr double kMaxSeconds = 10;
constexpr double kMaxSigma = 0.5;

// The fields whose figures need a source.
constexpr const char* kTimes[] = {"pass_s",    "embedding_s", "layer",        "kv_token_s", "head",
                                  "exit_head", "transfer_in", "transfer_out", "jitter"};
constexpr const char* kOthers[] = {"format", "name", "description", "basis", "num_layers", "sources"};
constexpr const char* kExtraSources[] = {"device", "model"};

bool IsTime(const std::string& key) {
  return std::find(std::begin(kTimes), std::end(kTimes), key) != std::end(kTimes);
}

// A key as a message quotes it: it comes from the file, so it is cut.
std::string Shown(const std::string& key) {
  return key.size() <= 64 ? key : key.substr(0, 64) + "...";
}

// Reads one object; the first thing that is wrong is kept, and later calls return something harmless.
class Reader {
 public:
  Reader(absl::string_view path, absl::Status* status) : path_(path), status_(status) {}

  absl::Status* status() { return status_; }

  void Fail(const std::string& field, absl::string_view message, absl::string_view limit = "") {
    if (status_->ok()) *status_ = BadFile(path_, absl::StrCat(field, " ", message), limit);
  }

  const json* Need(const json& object, const char* key, const std::string& field) {
    const auto it = object.find(key);
    if (it != object.end()) return &*it;
    Fail(field, "is missing");
    return nullptr;
  }

  std::string Text(const json& object, const char* key, const std::string& field,
                   size_t max_bytes) {
    const json* value = Need(object, key, field);
    if (value == nullptr) return "";
    if (!value->is_string()) return Fail(field, "is not a string"), "";
    const std::string& text = value->get_ref<const std::string&>();
    if (!text.empty() && text.size() <= max_bytes) return text;
    Fail(field, absl::StrCat("has ", text.size(), " bytes"), absl::StrCat("1 to ", max_bytes));
    return "";
  }

  int64_t Integer(const json& value, const std::string& field, int64_t lowest, int64_t highest) {
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() <= static_cast<uint64_t>(highest)
                          : value.is_number_integer() && value.get<int64_t>() <= highest;
    if (fits && value.get<int64_t>() >= lowest) return value.get<int64_t>();
    Fail(field, value.is_number() ? "is out of range or not whole" : "is not a number",
         absl::StrCat(lowest, " to ", highest));
    return lowest;
  }

  double Number(const json& value, const std::string& field, double highest) {
    const double number = value.is_number() ? value.get<double>() : -1;
    if (number >= 0 && number <= highest) return number;
    Fail(field, value.is_number() ? "is out of range" : "is not a number",
         absl::StrCat("0 to ", highest));
    return 0;
  }

  double NumberOr(const json& object, const char* key, const std::string& field, double otherwise,
                  double highest) {
    const auto it = object.find(key);
    return it == object.end() ? otherwise : Number(*it, field, highest);
  }

  // An object with no other keys than these.
  bool IsObjectOf(const json& value, const std::string& field,
                  std::initializer_list<const char*> keys) {
    if (!value.is_object()) return Fail(field, "is not an object"), false;
    for (const auto& [key, ignored] : value.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        Fail(absl::StrCat(field, ".", Shown(key)), "is not known", absl::StrJoin(keys, ", "));
        return false;
      }
    }
    return true;
  }

 private:
  absl::string_view path_;
  absl::Status* status_;
};

// [[rows, seconds], ...]
RowTable ReadTable(Reader* reader, const json& value, const std::string& field) {
  if (!value.is_array() || value.empty() || value.size() > kMaxPoints) {
    reader->Fail(field, "is not a list of [rows, seconds]", absl::StrCat("1 to ", kMaxPoints, " pairs"));
    return {};
  }
  std::vector<RowTable::Point> points;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string place = absl::StrCat(field, "[", i, "]");
    const json& pair = value[i];
    if (!pair.is_array() || pair.size() != 2) {
      reader->Fail(place, "is not a pair [rows, seconds]");
      return {};
    }
    const RowTable::Point point{
        .rows = static_cast<int32_t>(
            reader->Integer(pair[0], absl::StrCat(place, "[0]"), 1, kMaxTableRows)),
        .seconds = reader->Number(pair[1], absl::StrCat(place, "[1]"), kMaxSeconds)};
    if (!points.empty() && point.rows <= points.back().rows) {
      reader->Fail(absl::StrCat(place, "[0]"), "is not above the row count before it");
    }
    if (!points.empty() && point.seconds < points.back().seconds) {
      reader->Fail(absl::StrCat(place, "[1]"), "is below the time of fewer rows");
    }
    if (!reader->status()->ok()) return {};
    points.push_back(point);
  }
  if (points.front().rows != 1) reader->Fail(absl::StrCat(field, "[0][0]"), "is not 1 row");
  return RowTable(std::move(points));
}

TransferCost ReadTransfer(Reader* reader, const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !reader->IsObjectOf(*it, key, {"base_s", "row_s"})) return {};
  return {.base_s = reader->NumberOr(*it, "base_s", absl::StrCat(key, ".base_s"), 0, kMaxSeconds),
          .row_s = reader->NumberOr(*it, "row_s", absl::StrCat(key, ".row_s"), 0, kMaxSeconds)};
}

Jitter ReadJitter(Reader* reader, const json& object) {
  const auto it = object.find("jitter");
  if (it == object.end() || !reader->IsObjectOf(*it, "jitter", {"sigma", "seed"})) return {};
  Jitter jitter;
  jitter.sigma = reader->NumberOr(*it, "sigma", "jitter.sigma", 0, kMaxSigma);
  if (const auto seed = it->find("seed"); seed != it->end()) {
    jitter.seed = static_cast<uint64_t>(
        reader->Integer(*seed, "jitter.seed", 0, int64_t{1} << 53));
  }
  return jitter;
}

Basis ReadBasis(Reader* reader, const json& object) {
  const std::string text = reader->Text(object, "basis", "basis", kMaxNameBytes);
  for (const Basis basis : {Basis::kDerived, Basis::kPublished, Basis::kMeasured}) {
    if (text == NameOf(basis)) return basis;
  }
  reader->Fail("basis", "is no known one", "derived, published, measured");
  return Basis::kDerived;
}

std::string ReadName(Reader* reader, const json& object) {
  const std::string name = reader->Text(object, "name", "name", kMaxNameBytes);
  for (const char c : name) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!good) reader->Fail("name", "has a character that is not allowed", "a-z, 0-9, -, _, .");
  }
  return name;
}

std::map<std::string, std::string> ReadSources(Reader* reader, const json& object) {
  const json* sources = reader->Need(object, "sources", "sources");
  if (sources == nullptr) return {};
  if (!sources->is_object()) return reader->Fail("sources", "is not an object"), std::map<std::string, std::string>();
  std::map<std::string, std::string> read;
  for (const auto& [key, ignored] : sources->items()) {
    const bool extra = std::find(std::begin(kExtraSources), std::end(kExtraSources), key) !=
                       std::end(kExtraSources);
    const std::string field = absl::StrCat("sources.", Shown(key));
    if (!extra && (!IsTime(key) || !object.contains(key))) {
      reader->Fail(field, "explains no field that is there");
      return {};
    }
    read[key] = reader->Text(*sources, key.c_str(), field, kMaxTextBytes);
  }
  for (const char* time : kTimes) {
    if (object.contains(time) && !read.contains(time)) {
      reader->Fail(absl::StrCat("sources.", time), "is missing: every time says where it comes from");
    }
  }
  return read;
}

void CheckKeys(Reader* reader, const json& object) {
  for (const auto& [key, ignored] : object.items()) {
    const bool known =
        IsTime(key) || std::find(std::begin(kOthers), std::end(kOthers), key) != std::end(kOthers);
    if (!known) return reader->Fail(Shown(key), "is not known");
  }
}

}  // namespace

absl::StatusOr<DeviceProfile> ParseDeviceProfile(absl::string_view path, absl::string_view text) {
  absl::StatusOr<json> object = engine::ParseStrictJson(
      path, text, {.max_bytes = kMaxFileBytes, .max_depth = 4, .max_values = 4096});
  if (!object.ok()) return object.status();
  if (!object->is_object()) return BadFile(path, "is not an object");
  absl::Status status;
  Reader reader(path, &status);
  if (reader.Text(*object, "format", "format", kMaxNameBytes) != kFormat) {
    reader.Fail("format", "is another one", kFormat);
  }
  CheckKeys(&reader, *object);

  DeviceProfile profile;
  profile.name = ReadName(&reader, *object);
  profile.description = reader.Text(*object, "description", "description", kMaxTextBytes);
  profile.basis = ReadBasis(&reader, *object);
  profile.sources = ReadSources(&reader, *object);
  if (const json* layers = reader.Need(*object, "num_layers", "num_layers")) {
    profile.num_layers = static_cast<int32_t>(reader.Integer(*layers, "num_layers", 1, kMaxLayers));
  }
  profile.pass_s = reader.NumberOr(*object, "pass_s", "pass_s", 0, kMaxSeconds);
  profile.embedding_s = reader.NumberOr(*object, "embedding_s", "embedding_s", 0, kMaxSeconds);
  profile.kv_token_s = reader.NumberOr(*object, "kv_token_s", "kv_token_s", 0, 1e-3);
  if (const json* layer = reader.Need(*object, "layer", "layer")) {
    profile.layer = ReadTable(&reader, *layer, "layer");
  }
  if (const json* head = reader.Need(*object, "head", "head")) {
    profile.head = ReadTable(&reader, *head, "head");
  }
  profile.exit_head = profile.head;
  if (const auto head = object->find("exit_head"); head != object->end()) {
    profile.exit_head = ReadTable(&reader, *head, "exit_head");
  }
  profile.transfer_in = ReadTransfer(&reader, *object, "transfer_in");
  profile.transfer_out = ReadTransfer(&reader, *object, "transfer_out");
  profile.jitter = ReadJitter(&reader, *object);
  if (!status.ok()) return status;
  return profile;
}

absl::StatusOr<DeviceProfile> LoadDeviceProfile(const std::string& name_or_path) {
  if (absl::StrContains(name_or_path, "/") || absl::EndsWith(name_or_path, ".json")) {
    absl::StatusOr<engine::MappedFile> file =
        engine::MappedFile::Open(name_or_path, static_cast<int64_t>(kMaxFileBytes));
    if (!file.ok()) return file.status();
    const absl::Span<const uint8_t> bytes = file->bytes();
    return ParseDeviceProfile(
        name_or_path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  for (size_t i = 0; i < kNumBuiltinProfiles; ++i) {
    if (name_or_path == kBuiltinProfiles[i].name) {
      return ParseDeviceProfile(absl::StrCat("profiles/", name_or_path, ".json"),
                                kBuiltinProfiles[i].text);
    }
  }
  return MissingFile(name_or_path.substr(0, 256),
                     absl::StrCat("no device profile of that name (there are ",
                                  absl::StrJoin(BuiltinProfileNames(), ", "),
                                  "); a file's name has a '/' or ends in .json"));
}

std::vector<std::string> BuiltinProfileNames() {
  std::vector<std::string> names;
  for (size_t i = 0; i < kNumBuiltinProfiles; ++i) names.push_back(kBuiltinProfiles[i].name);
  return names;
}

}  // namespace mirrorsd::pacing
