#pragma once
// A YAML file of options into (key, texts, line) triples, by yaml-cpp, which yaml_file.cc alone sees. The
// file is one flat mapping; values are scalars or lists of scalars. Which keys exist is not known
// here. Pure, but for ReadYamlFile, which reads the file.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mirrorsd::config {

inline constexpr size_t kMaxYamlFileBytes = 1 << 20;
// Of all lists and scalars together: an alias repeats a list at the cost of a few bytes.
inline constexpr size_t kMaxYamlValues = 4096;

struct YamlEntry {
  std::string key;
  std::vector<std::string> texts;
  bool is_list = false;
  int line = 0;  // from 1
};

// Errors:  BAD_FILE with "NAME:LINE" for what is no YAML, no flat mapping, a key twice, above a limit
absl::StatusOr<std::vector<YamlEntry>> ParseYaml(std::string_view text, const std::string& name);

// Errors:  MISSING_FILE, and those of ParseYaml
absl::StatusOr<std::vector<YamlEntry>> ReadYamlFile(const std::string& path);

}  // namespace mirrorsd::config
