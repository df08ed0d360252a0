#include <map>
#include <string_view>

#include "services/telemetry/metrics.h"

namespace mirrorsd::telemetry {
namespace {

struct Family {
  std::string heading;  // the HELP and TYPE lines of the text that named it first
  std::string body;
};

// "# HELP name text" and "# TYPE name kind" give the name; other comments give none.
std::string_view HeadingName(std::string_view line) {
  if (line.substr(0, 7) != "# HELP " && line.substr(0, 7) != "# TYPE ") return {};
  std::string_view rest = line.substr(7);
  return rest.substr(0, rest.find(' '));
}

// Appends one process's families to those found so far.
void Collect(const std::string& text, std::map<std::string, Family, std::less<>>* families) {
  Family* current = nullptr;
  bool heading_is_new = false;
  std::string current_name;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    const std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    if (line[0] != '#') {
      if (current != nullptr) current->body.append(line).push_back('\n');
      continue;
    }
    const std::string_view name = HeadingName(line);
    if (name.empty()) continue;
    if (name != current_name) {
      auto [found, inserted] = families->try_emplace(std::string(name));
      current = &found->second;
      current_name = name;
      heading_is_new = inserted;
    }
    if (heading_is_new) current->heading.append(line).push_back('\n');
  }
}

}  // namespace

std::string MergeExpositions(const std::vector<std::string>& texts) {
  std::map<std::string, Family, std::less<>> families;
  for (const std::string& text : texts) Collect(text, &families);
  std::string merged;
  for (const auto& [name, family] : families) merged += family.heading + family.body;
  return merged;
}

}  // namespace mirrorsd::telemetry
