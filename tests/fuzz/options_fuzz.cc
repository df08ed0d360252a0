// Bytes as what a person configures a program with: command line, environment and the YAML file of --config, split
// at zero bytes. Everything is refused with a named place, or every value is of its type and within its
// limits.

#include <cmath>
#include <cstdint>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/error.h"
#include "services/config/options.h"
#include "services/config/yaml_file.h"

namespace mirrorsd::config {
namespace {

// A file of ours that needs no disk.
const std::string& ConfigPath() {
  static const std::string* const path =
      new std::string(absl::StrCat("/proc/self/fd/", memfd_create("options_fuzz", 0)));
  return *path;
}

void WriteConfig(const std::string& text) {
  const int fd = std::stoi(ConfigPath().substr(ConfigPath().rfind('/') + 1));
  CHECK_EQ(ftruncate(fd, 0), 0);
  CHECK_EQ(pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
}

void CheckRefusal(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  CHECK(info.has_value() && !info->field.empty()) << status;
  CHECK(info->reason == "INVALID_FIELD" || info->reason == "BAD_FILE") << status;
}

void CheckYaml(const std::string& text) {
  const auto entries = ParseYaml(text, "fuzz.yaml");
  if (!entries.ok()) return CheckRefusal(entries.status());
  size_t num_values = 0;
  for (const YamlEntry& entry : *entries) {
    CHECK_GE(entry.line, 1);
    CHECK(entry.is_list || entry.texts.size() == 1);
    num_values += entry.texts.size();
  }
  CHECK_LE(num_values, kMaxYamlValues);
}

void CheckOptions(const CommandSpec& command, const Options& options) {
  for (const OptionSpec& spec : OptionTable()) {
    CHECK_EQ(options.Takes(spec.name), (spec.programs & command.program) != 0);
    if (!options.Takes(spec.name) || !options.Has(spec.name)) continue;
    if (spec.type == OptionType::kInteger || spec.type == OptionType::kNumber) {
      const auto integer = options.OptionalInteger(spec.name);
      const auto number = options.OptionalNumber(spec.name);
      CHECK(spec.type == OptionType::kInteger ? integer.has_value() : number.has_value());
      CHECK(!std::isnan(number.value_or(0)));
      if (spec.min < spec.max) CHECK(*number >= spec.min && *number <= spec.max);
    } else if (spec.type == OptionType::kFlag) {
      CHECK(options.Text(spec.name) == "true" || options.Text(spec.name) == "false");
    }
    CHECK(!options.Place(spec.name).empty());
  }
}

// A child that is handed what was given must understand it the same way.
void CheckForChild(const Options& options, const CommandSpec& command) {
  const std::vector<std::string> arguments = options.ArgumentsFor(command.program);
  const auto again = ResolveOptions(command, arguments, {});
  CHECK(again.ok()) << again.status();
  CHECK(again->options->ArgumentsFor(command.program) == arguments);
}

constexpr CommandSpec kCommands[] = {
    {.program = kServe, .command_line = "mirrorsd serve"},
    {.program = kGenerate, .command_line = "mirrorsd generate"},
    {.program = kDoctor, .command_line = "mirrorsd doctor", .positional = "folders"},
    {.program = kGateway, .command_line = "mirrorsd-gateway"},
    {.program = kScheduler, .command_line = "mirrorsd-scheduler"},
    {.program = kVerifierWorker, .command_line = "mirrorsd-verifier-worker"},
};

}  // namespace
}  // namespace mirrorsd::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::config;  // NOLINT
  if (size == 0) return 0;
  const CommandSpec& command = kCommands[data[0] % std::size(kCommands)];
  const std::string input(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::string yaml;
  for (const absl::string_view part : absl::StrSplit(input, '\0')) {
    // No file of the machine is read: the one place that names a file gets ours.
    if (absl::StartsWith(part, "yaml:")) {
      yaml.assign(part.substr(5).data(), part.size() - 5);
    } else if (absl::StartsWith(part, "MIRRORSD_") && !absl::StrContains(part, "CONFIG")) {
      environment.emplace_back(part);
    } else if (!absl::StrContains(part, "config")) {
      arguments.emplace_back(part);
    }
  }
  if (!yaml.empty()) {
    CheckYaml(yaml);
    WriteConfig(yaml);
    arguments.push_back("--config=" + ConfigPath());
  }
  const auto invocation = ResolveOptions(command, arguments, environment);
  if (!invocation.ok()) {
    CheckRefusal(invocation.status());
  } else if (!invocation->help) {
    CheckOptions(command, *invocation->options);
    CheckForChild(*invocation->options, command);
  }
  return 0;
}
