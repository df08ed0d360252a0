#include "services/config/yaml_file.h"

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::config {
namespace {

std::string PlaceOf(const std::string& name, const YAML::Mark& mark) {
  return mark.is_null() ? name : absl::StrCat(name, ":", mark.line + 1);
}

// A key as a message quotes it: it comes from the file, so it is cut.
std::string Shown(const std::string& key) {
  return key.size() <= 64 ? key : key.substr(0, 64) + "...";
}

absl::Status TooManyValues(const std::string& name, int line) {
  return BadFile(absl::StrCat(name, ":", line), "the file has too many values",
                 absl::StrCat(kMaxYamlValues, " values"));
}

absl::StatusOr<YamlEntry> ReadEntry(const std::string& name, const YAML::Node& key,
                                    const YAML::Node& value) {
  if (!key.IsScalar()) {
    return BadFile(PlaceOf(name, key.Mark()), "a key must be the name of an option");
  }
  YamlEntry entry;
  entry.key = key.Scalar();
  entry.line = key.Mark().line + 1;
  if (value.IsScalar()) {
    entry.texts.push_back(value.Scalar());
    return entry;
  }
  if (!value.IsSequence()) {
    return BadFile(PlaceOf(name, key.Mark()),
                   absl::StrCat(Shown(entry.key), " needs a value: a scalar or a list of scalars"));
  }
  entry.is_list = true;
  for (const YAML::Node& item : value) {
    if (!item.IsScalar()) {
      return BadFile(PlaceOf(name, item.Mark()),
                     absl::StrCat("the list of ", Shown(entry.key), " may hold scalars only"));
    }
    if (entry.texts.size() == kMaxYamlValues) return TooManyValues(name, entry.line);
    entry.texts.push_back(item.Scalar());
  }
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<YamlEntry>> ParseYaml(std::string_view text, const std::string& name) {
  if (text.size() > kMaxYamlFileBytes) {
    return BadFile(name, "the file is too large", absl::StrCat(kMaxYamlFileBytes, " bytes"));
  }
  std::vector<YamlEntry> entries;
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (root.IsNull()) return entries;  // an empty file
    if (!root.IsMap()) {
      return BadFile(PlaceOf(name, root.Mark()), "the file must be a mapping of options to values");
    }
    std::set<std::string> seen;
    size_t num_values = 0;
    for (const auto& pair : root) {
      absl::StatusOr<YamlEntry> entry = ReadEntry(name, pair.first, pair.second);
      if (!entry.ok()) return entry.status();
      if (!seen.insert(entry->key).second) {
        return BadFile(absl::StrCat(name, ":", entry->line),
                       absl::StrCat(Shown(entry->key), " stands twice in the file"));
      }
      num_values += entry->texts.size();
      if (num_values > kMaxYamlValues || seen.size() > kMaxYamlValues) return TooManyValues(name, entry->line);
      entries.push_back(*std::move(entry));
    }
  } catch (const YAML::Exception& error) {
    return BadFile(PlaceOf(name, error.mark), absl::StrCat("not YAML: ", error.msg));
  }
  return entries;
}

absl::StatusOr<std::vector<YamlEntry>> ReadYamlFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return MissingFile(path, "the file of --config cannot be opened");
  std::string text(kMaxYamlFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return BadFile(path, "the file of --config cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseYaml(text, path);
}

}  // namespace mirrorsd::config
