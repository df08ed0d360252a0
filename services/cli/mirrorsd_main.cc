// mirrorsd: one command per life (services/cli/commands.h).

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "services/bench/agreement/agreement_command.h"
#include "services/bench/engine/engine_command.h"
#include "services/bench/record/record_command.h"
#include "services/bench/rounds/rounds_command.h"
#include "services/bench/tune/tune_command.h"
#include "services/cell/models/load_format.h"
#include "services/cell/process_start.h"
#include "services/cell/role_options.h"
#include "services/cell/role_programs.h"
#include "services/cli/commands.h"

namespace mirrorsd::cli {
namespace {

using cell::ExitCode;

// A name of two words is one of a group: `mirrorsd bench rounds`.
constexpr struct {
  std::string_view name;
  config::Program program;
  ExitCode (*run)(const config::Options& options);
} kCommands[] = {
    {"serve", config::kServe, RunServe},    {"generate", config::kGenerate, RunGenerate},
    {"chat", config::kChat, RunChat},       {"logits", config::kLogits, RunLogits},
    {"doctor", config::kDoctor, RunDoctor},
    {"make-twin", config::kMakeTwin, RunMakeTwin},
    {"trace", config::kTrace, RunTrace},
    {"tune", config::kTune, bench::RunTune},
    {"bench agreement", config::kBenchAgreement, bench::RunBenchAgreement},
    {"bench rounds", config::kBenchRounds, bench::RunBenchRounds},
    {"bench record", config::kBenchRecord, bench::RunBenchRecord},
    {"bench engine", config::kBenchEngine, bench::RunBenchEngine},
};

bool IsOfGroup(std::string_view name, std::string_view group) {
  return group.empty() || name.substr(0, name.find(' ')) == group;
}

// All commands, or those of a group.
void PrintOverview(std::FILE* out, std::string_view group = {}) {
  std::fputs(group.empty() ? "mirrorsd: lossless speculative decoding across processes.\n\nCommands:\n"
                           : "Commands:\n",
             out);
  for (const auto& command : kCommands) {
    if (!IsOfGroup(command.name, group)) continue;
    std::fprintf(out, "  %-16s %s\n", std::string(command.name).c_str(),
                 std::string(SpecOf(command.program).summary).c_str());
  }
  std::fputs("\n'mirrorsd COMMAND --help' tells each one's options; 'mirrorsd --version' the version.\n",
             out);
}

ExitCode Run(const config::CommandSpec& spec, const std::vector<std::string>& arguments,
             ExitCode (*run)(const config::Options& options)) {
  const std::string program(spec.command_line);
  auto invocation = config::ResolveOptions(spec, arguments, cell::Environment());
  if (!invocation.ok()) return cell::ReportUsage(program, invocation.status());
  if (invocation->help) {
    std::fputs(config::HelpText(spec).c_str(), stdout);
    return cell::kExitDone;
  }
  cell::InitLoggingFrom(*invocation->options, /*quiet=*/spec.program != config::kServe);
  if (const absl::Status checked = cell::CheckLoadFormat(*invocation->options); !checked.ok()) {
    return cell::ReportOptions(program, checked);
  }
  return run(*invocation->options);
}

// Runs the command of that name, the second word of which may still stand in `arguments`.
ExitCode RunNamed(std::string name, std::vector<std::string> arguments) {
  bool is_group = false;
  std::vector<std::string_view> names;
  for (const auto& each : kCommands) {
    names.push_back(each.name);
    is_group = is_group || (each.name.size() > name.size() && IsOfGroup(each.name, name));
  }
  if (is_group) {
    const bool help = !arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h");
    if (arguments.empty() || help) {
      PrintOverview(help ? stdout : stderr, name);
      return help ? cell::kExitDone : cell::kExitUsage;
    }
    name += " " + arguments[0];
    arguments.erase(arguments.begin());
  }
  for (const auto& each : kCommands) {
    if (each.name == name) return Run(SpecOf(each.program), arguments, each.run);
  }
  const std::string closest(config::ClosestName(name, names));
  std::fprintf(stderr, "mirrorsd: unknown command '%s'%s%s%s\n", name.c_str(),
               closest.empty() ? "" : "; did you mean ", closest.c_str(), closest.empty() ? "" : "?");
  std::fputs("Try 'mirrorsd --help'.\n", stderr);
  return cell::kExitUsage;
}

ExitCode Main(int argc, char** argv) {
  if (argc < 2) {
    PrintOverview(stderr);
    return cell::kExitUsage;
  }
  const std::string command = argv[1];
  if (command == "--version" || command == "version") {
    std::printf("mirrorsd %s\n", cell::Version());
    return cell::kExitDone;
  }
  if (command == "--help" || command == "-h" || command == "help") {
    PrintOverview(stdout);
    return cell::kExitDone;
  }
  return RunNamed(command, std::vector<std::string>(argv + 2, argv + argc));
}

}  // namespace
}  // namespace mirrorsd::cli

int main(int argc, char** argv) {
  mirrorsd::cell::StartProcess();
  return mirrorsd::cli::Main(argc, argv);
}
