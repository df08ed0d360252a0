#include <cmath>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "services/config/command_line.h"
#include "services/config/options.h"
#include "services/config/yaml_file.h"

namespace mirrorsd::config {
namespace {

using Values = std::map<std::string, OptionValue, std::less<>>;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string LimitText(const OptionSpec& spec) {
  if (spec.min >= spec.max) return "";
  return absl::StrCat(spec.min, " to ", static_cast<int64_t>(spec.max));
}

bool IsIn(std::string_view text, std::string_view choices) {
  if (choices.empty()) return false;
  for (const absl::string_view choice : absl::StrSplit(View(choices), '|')) {
    if (choice == View(text)) return true;
  }
  return false;
}

absl::Status CheckNumber(const OptionSpec& spec, const std::string& text,
                         const std::string& place) {
  double value = 0;
  int64_t whole = 0;
  if (spec.type == OptionType::kInteger) {
    if (!absl::SimpleAtoi(text, &whole)) {
      return InvalidField(place, absl::StrCat("'", text, "' is not a whole number"),
                          LimitText(spec));
    }
    value = static_cast<double>(whole);
  } else if (!absl::SimpleAtod(text, &value)) {
    return InvalidField(place, absl::StrCat("'", text, "' is not a number"), LimitText(spec));
  }
  if (spec.min < spec.max && !(value >= spec.min && value <= spec.max)) {
    return InvalidField(place, absl::StrCat(text, " is out of range"), LimitText(spec));
  }
  return absl::OkStatus();
}

// Brings one text into the form that Options reads, or says what is wrong with it.
absl::Status CheckText(const OptionSpec& spec, const std::string& place, std::string* text) {
  switch (spec.type) {
    case OptionType::kInteger:
    case OptionType::kNumber:
      return CheckNumber(spec, *text, place);
    case OptionType::kFlag:
      if (*text == "true" || *text == "1" || *text == "yes" || *text == "on") {
        *text = "true";
      } else if (*text == "false" || *text == "0" || *text == "no" || *text == "off") {
        *text = "false";
      } else {
        return InvalidField(place, absl::StrCat("'", *text, "' is neither true nor false"));
      }
      return absl::OkStatus();
    case OptionType::kText:
    case OptionType::kTextList:
      break;
  }
  if (spec.choices.empty() || IsIn(*text, spec.choices)) return absl::OkStatus();
  const std::string limit =
      absl::StrJoin(absl::StrSplit(View(spec.choices), '|'), " or ");
  if (IsIn(*text, spec.later_choices)) {
    return InvalidField(place, absl::StrCat("'", *text, "' is not in this version yet"), limit);
  }
  return InvalidField(place, absl::StrCat("'", *text, "' is unknown"), limit);
}

absl::Status Put(const OptionSpec& spec, OptionValue value, Values* values) {
  for (std::string& text : value.texts) {
    if (absl::Status status = CheckText(spec, value.place, &text); !status.ok()) return status;
  }
  values->insert_or_assign(std::string(spec.name), std::move(value));
  return absl::OkStatus();
}

absl::Status AddDefaults(Program program, Values* values) {
  for (const OptionSpec& spec : OptionTable()) {
    if ((spec.programs & program) == 0 || spec.default_value.empty()) continue;
    OptionValue value{{std::string(spec.default_value)}, Source::kDefault, ""};
    if (absl::Status status = Put(spec, std::move(value), values); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AddFile(Program program, const std::string& path, Values* values) {
  const absl::StatusOr<std::vector<YamlEntry>> entries = ReadYamlFile(path);
  if (!entries.ok()) return entries.status();
  for (const YamlEntry& entry : *entries) {
    const std::string where = absl::StrCat(path, ":", entry.line);
    const OptionSpec* spec = FindOption(entry.key);
    if (spec == nullptr || spec->name == "config") {
      std::vector<std::string_view> names;
      for (const OptionSpec& each : OptionTable()) names.push_back(each.name);
      const std::string_view closest = ClosestName(entry.key, names);
      const std::string shown = entry.key.size() <= 64 ? entry.key : entry.key.substr(0, 64) + "...";
      return BadFile(where, absl::StrCat("unknown key '", shown, "'",
                                         closest.empty() ? "" : "; did you mean ", View(closest),
                                         closest.empty() ? "" : "?"));
    }
    if (entry.is_list && spec->type != OptionType::kTextList) {
      return BadFile(where, absl::StrCat(entry.key, " takes one value, not a list"));
    }
    // One file serves all programs of a cell: what another one takes is checked, too.
    Values elsewhere;
    OptionValue value{entry.texts, Source::kFile, absl::StrCat(where, ": ", entry.key)};
    Values* target = (spec->programs & program) != 0 ? values : &elsewhere;
    if (absl::Status status = Put(*spec, std::move(value), target); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AddEnvironment(Program program, const std::vector<std::string>& environment,
                            Values* values) {
  std::map<std::string, std::string> variables;
  for (const std::string& line : environment) {
    const size_t equals = line.find('=');
    if (line.rfind("MIRRORSD_", 0) != 0 || equals == std::string::npos) continue;
    variables.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  for (const OptionSpec& spec : OptionTable()) {
    if ((spec.programs & program) == 0) continue;
    const std::string name = EnvironmentName(spec.name);
    const auto found = variables.find(name);
    if (found == variables.end()) continue;
    OptionValue value{{found->second}, Source::kEnvironment, name};
    if (absl::Status status = Put(spec, std::move(value), values); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Invocation> ResolveOptions(const CommandSpec& command,
                                          const std::vector<std::string>& arguments,
                                          const std::vector<std::string>& environment) {
  absl::StatusOr<ParsedCommandLine> parsed = ParseCommandLine(command, arguments);
  if (!parsed.ok()) return parsed.status();
  if (parsed->help) return Invocation{.help = true, .options = std::nullopt};

  Values from_environment;
  absl::Status status = AddEnvironment(command.program, environment, &from_environment);
  if (!status.ok()) return status;
  Values from_arguments;
  for (auto& [name, texts] : parsed->given) {
    OptionValue value{std::move(texts), Source::kCommandLine, "--" + name};
    status = Put(*FindOption(name), std::move(value), &from_arguments);
    if (!status.ok()) return status;
  }

  Values values;
  if (status = AddDefaults(command.program, &values); !status.ok()) return status;
  for (const Values* above : {&from_arguments, &from_environment}) {
    const auto file = above->find("config");
    if (file == above->end()) continue;
    if (status = AddFile(command.program, file->second.texts.front(), &values); !status.ok()) {
      return status;
    }
    break;
  }
  for (Values* above : {&from_environment, &from_arguments}) {
    for (auto& [name, value] : *above) values.insert_or_assign(name, std::move(value));
  }
  return Invocation{.help = false, .options = Options(command.program, std::move(values))};
}

}  // namespace mirrorsd::config
