// mirrorsd-simulate: the scheduler core in virtual time with modelled workers. docs/simulator.md.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/error.h"
#include "services/bench/result_line.h"
#include "tools/simulate/options.h"
#include "tools/simulate/report.h"
#include "tools/simulate/simulation.h"

namespace mirrorsd::simulate {
namespace {

enum ExitCode : int { kDone = 0, kUsage = 2, kBadFile = 3 };

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "mirrorsd-simulate: %s\n", std::string(status.message()).c_str());
  const auto info = GetErrorInfo(status);
  if (info.has_value() && info->reason != "INVALID_FIELD") return kBadFile;
  std::fputs("Try 'mirrorsd-simulate --help'.\n", stderr);
  return kUsage;
}

absl::Status WriteResults(const Command& command, const std::string& label,
                          const std::vector<Figures>& modes) {
  if (!command.json.empty()) {
    nlohmann::ordered_json line = bench::ResultHead(bench::CommandLine(), label);
    line["figures"] = ToJson(modes);
    if (absl::Status status = bench::AppendLine(command.json, line); !status.ok()) return status;
  }
  if (command.svg.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(command.svg, error);
  for (const auto& [name, text] : Plots(modes, label)) {
    const std::string path = command.svg + "/" + name;
    if (absl::Status status = bench::WriteTextFile(path, text); !status.ok()) return status;
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Command> command = ParseCommand({argv + 1, argv + argc});
  if (!command.ok()) return Fail(command.status());
  if (command->help) {
    std::fputs(HelpText().c_str(), stdout);
    return kDone;
  }
  if (command->version) {
    std::printf("mirrorsd-simulate %s\n", MIRRORSD_VERSION);
    return kDone;
  }
  const std::string label =
      command->label.empty() ? DescribeSettings(command->settings) : command->label;
  std::vector<Figures> modes;
  for (const SpeculationMode mode : command->modes) {
    Settings settings = command->settings;
    settings.mode = mode;
    modes.push_back(Simulate(settings));
  }
  std::printf("%s\n%s", label.c_str(), TableText(modes).c_str());
  if (absl::Status status = WriteResults(*command, label, modes); !status.ok()) return Fail(status);
  return kDone;
}

}  // namespace
}  // namespace mirrorsd::simulate

int main(int argc, char** argv) { return mirrorsd::simulate::Main(argc, argv); }
