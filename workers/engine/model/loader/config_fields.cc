#include "workers/engine/model/loader/config_fields.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::engine {
namespace {

using nlohmann::json;

constexpr size_t kMaxIds = 1024;

// A value as a message quotes it: it comes from the file, so it is cut.
std::string Quote(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

ConfigFields::ConfigFields(absl::string_view path, const json& object, absl::Status* status,
                           std::string prefix)
    : path_(path), object_(&object), status_(status), prefix_(std::move(prefix)) {}

bool ConfigFields::Has(const char* name) const { return Find(name) != nullptr; }

const json* ConfigFields::Find(const char* name) const {
  const auto it = object_->find(name);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

void ConfigFields::Fail(absl::string_view name, absl::string_view message,
                        absl::string_view limit) {
  if (!status_->ok()) return;
  *status_ = BadFile(path_, absl::StrCat("\"", prefix_, name, "\" ", message), limit);
}

int32_t ConfigFields::CheckedInt(absl::string_view name, const json& value, int32_t lowest,
                                 int32_t highest) {
  const bool fits =
      value.is_number_unsigned()
          ? value.get<uint64_t>() <= static_cast<uint64_t>(INT32_MAX)
          : value.is_number_integer() && value.get<int64_t>() >= INT32_MIN;
  const int64_t number = fits ? value.get<int64_t>() : 0;
  if (fits && number >= lowest && number <= highest) return static_cast<int32_t>(number);
  Fail(name, absl::StrCat("is ", Quote(value)),
       absl::StrCat("a whole number, ", lowest, " to ", highest));
  return lowest;
}

int32_t ConfigFields::Int(const char* name, int32_t lowest, int32_t highest) {
  const json* value = Find(name);
  if (value != nullptr) return CheckedInt(name, *value, lowest, highest);
  Fail(name, "is missing", absl::StrCat("a whole number, ", lowest, " to ", highest));
  return lowest;
}

int32_t ConfigFields::IntOr(const char* name, int32_t fallback, int32_t lowest, int32_t highest) {
  const json* value = Find(name);
  return value == nullptr ? fallback : CheckedInt(name, *value, lowest, highest);
}

double ConfigFields::Number(const char* name, double lowest, double highest) {
  if (!Has(name)) Fail(name, "is missing", absl::StrCat("a number, ", lowest, " to ", highest));
  return NumberOr(name, lowest, lowest, highest);
}

double ConfigFields::NumberOr(const char* name, double fallback, double lowest, double highest) {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (number >= lowest && number <= highest) return number;
  }
  Fail(name, absl::StrCat("is ", Quote(*value)),
       absl::StrCat("a number, ", lowest, " to ", highest));
  return lowest;
}

bool ConfigFields::BoolOr(const char* name, bool fallback) {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, absl::StrCat("is ", Quote(*value)), "true or false");
  return fallback;
}

std::string ConfigFields::StringOr(const char* name, absl::string_view fallback) {
  const json* value = Find(name);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return value->get<std::string>();
  Fail(name, absl::StrCat("is ", Quote(*value)), "a string");
  return std::string(fallback);
}

std::vector<TokenId> ConfigFields::Ids(const char* name, int32_t lowest, int32_t highest) {
  const json* value = Find(name);
  if (value == nullptr) return {};
  if (!value->is_array()) return {CheckedInt(name, *value, lowest, highest)};
  if (value->size() > kMaxIds) {
    Fail(name, absl::StrCat("lists ", value->size(), " ids"), absl::StrCat(kMaxIds, " ids"));
    return {};
  }
  std::vector<TokenId> ids;
  for (const json& id : *value) ids.push_back(CheckedInt(name, id, lowest, highest));
  return ids;
}

std::optional<ConfigFields> ConfigFields::Object(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    Fail(name, absl::StrCat("is ", Quote(*value)), "an object or null");
    return std::nullopt;
  }
  return ConfigFields(path_, *value, status_, absl::StrCat(prefix_, name, "."));
}

}  // namespace mirrorsd::engine
