#include "services/config/command_line.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"

namespace mirrorsd::config {
namespace {

struct Registered {
  const OptionSpec* spec = nullptr;
  CLI::Option* option = nullptr;
};

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string Dashed(std::string_view name) { return "--" + std::string(name); }

Registered Register(const OptionSpec& spec, CLI::App* app) {
  std::string names = Dashed(spec.name);
  if (!spec.alias.empty()) names += "," + Dashed(spec.alias);
  if (spec.type == OptionType::kFlag) return {&spec, app->add_flag(names)};
  CLI::Option* option = app->add_option(names);
  option->type_size(1)->allow_extra_args(false);
  if (spec.type == OptionType::kTextList) {
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  return {&spec, option};
}

// An option that is not the command's: says whose it is, or what may have been meant.
absl::Status UnknownOption(const CommandSpec& command, std::string_view word) {
  const std::string_view stripped = word.substr(word.find_first_not_of('-'));
  const std::string_view name = stripped.substr(0, stripped.find('='));
  const OptionSpec* elsewhere = FindOption(name);
  std::string message;
  if (elsewhere != nullptr && (elsewhere->programs & command.program) == 0) {
    message = absl::StrCat("not an option of ", View(command.command_line));
  } else {
    message = "unknown option";
    std::vector<std::string_view> names = {"help"};
    for (const OptionSpec& spec : OptionTable()) {
      if ((spec.programs & command.program) != 0) names.push_back(spec.name);
    }
    const std::string_view closest = ClosestName(name, names);
    if (!closest.empty()) absl::StrAppend(&message, "; did you mean --", View(closest), "?");
  }
  return InvalidField(View(word.substr(0, word.find('='))), message);
}

absl::Status PlaceStrayWords(const CommandSpec& command, const std::vector<std::string>& words,
                             ParsedCommandLine* parsed) {
  std::vector<std::string> positional;
  for (const std::string& word : words) {
    if (word.size() > 1 && word[0] == '-' && word.find_first_not_of('-') != std::string::npos) {
      return UnknownOption(command, word);
    }
    if (command.positional.empty()) {
      return InvalidField(word.empty() ? "''" : word, absl::StrCat("unexpected word; ", View(command.command_line),
                                             " takes options only (see --help)"));
    }
    positional.push_back(word);
  }
  if (!positional.empty()) {
    parsed->given.emplace_back(std::string(command.positional), std::move(positional));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ParsedCommandLine> ParseCommandLine(const CommandSpec& command,
                                                   const std::vector<std::string>& arguments) {
  CLI::App app;
  app.set_help_flag();  // ours is among the registered ones
  app.allow_extras();
  CLI::Option* help = app.add_flag("-h,--help");
  std::vector<Registered> registered;
  for (const OptionSpec& spec : OptionTable()) {
    if ((spec.programs & command.program) != 0) registered.push_back(Register(spec, &app));
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  ParsedCommandLine parsed;
  try {
    app.parse(reversed);
  } catch (const CLI::ArgumentMismatch& error) {
    // CLI11 names the option at the front: "--seed: 1 required TEXT missing".
    const std::string what = error.what();
    const bool missing = what.find("required") != std::string::npos && what.find("missing") != std::string::npos;
    return InvalidField(what.substr(0, what.find(':')),
                        missing ? "needs a value" : "takes one value and was given several");
  } catch (const CLI::ParseError& error) {
    const std::string what = error.what();
    const size_t colon = what.find(':');
    if (what.rfind("--", 0) == 0 && colon != std::string::npos) {
      return InvalidField(what.substr(0, colon), what.substr(what.find_first_not_of(": ", colon)));
    }
    return InvalidField("command line", what);
  }
  parsed.help = help->count() > 0;
  if (parsed.help) return parsed;
  for (const Registered& entry : registered) {
    if (entry.option->count() == 0) continue;
    parsed.given.emplace_back(std::string(entry.spec->name), entry.option->results());
  }
  if (absl::Status status = PlaceStrayWords(command, app.remaining(), &parsed); !status.ok()) {
    return status;
  }
  return parsed;
}

}  // namespace mirrorsd::config
