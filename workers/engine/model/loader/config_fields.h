#pragma once
// Typed access to the fields of a config.json. Every number is asked for with its limits; the first thing
// that is wrong is kept and all later calls return their lowest allowed value, so that a reader is a plain
// list of fields with one look at status() at its end. A null counts as absent. Not thread-safe.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/ids.h"
#include "nlohmann/json.hpp"

namespace mirrorsd::engine {

class ConfigFields {
 public:
  // `path` names the file in errors; `object` and `status` must outlive this. `prefix` is that of a
  // nested object, e.g. "rope_scaling.".
  ConfigFields(absl::string_view path, const nlohmann::json& object, absl::Status* status,
               std::string prefix = "");

  bool Has(const char* name) const;
  // Both ends of a range are allowed.
  int32_t Int(const char* name, int32_t lowest, int32_t highest);
  int32_t IntOr(const char* name, int32_t fallback, int32_t lowest, int32_t highest);
  double Number(const char* name, double lowest, double highest);
  double NumberOr(const char* name, double fallback, double lowest, double highest);
  bool BoolOr(const char* name, bool fallback);
  std::string StringOr(const char* name, absl::string_view fallback);
  // One id, a list of ids, or nothing.
  std::vector<TokenId> Ids(const char* name, int32_t lowest, int32_t highest);
  // The fields of a nested object; none where it is absent.
  std::optional<ConfigFields> Object(const char* name);

  // Records an error about a field: BAD_FILE naming file, field and limit.
  void Fail(absl::string_view name, absl::string_view message, absl::string_view limit);

  const absl::Status& status() const { return *status_; }

 private:
  const nlohmann::json* Find(const char* name) const;
  // The value in range, or `lowest` and an error.
  int32_t CheckedInt(absl::string_view name, const nlohmann::json& value, int32_t lowest,
                     int32_t highest);

  std::string path_;
  const nlohmann::json* object_;
  absl::Status* status_;
  std::string prefix_;
};

}  // namespace mirrorsd::engine
