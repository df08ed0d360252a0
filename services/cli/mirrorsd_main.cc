// mirrorsd: one command per life (services/cli/commands.h).

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "services/cell/process_start.h"
#include "services/cell/role_options.h"
#include "services/cell/role_programs.h"
#include "services/cli/commands.h"

namespace mirrorsd::cli {
namespace {

using cell::ExitCode;

constexpr struct {
  std::string_view name;
  config::Program program;
  ExitCode (*run)(const config::Options& options);
} kCommands[] = {
    {"serve", config::kServe, RunServe},    {"generate", config::kGenerate, RunGenerate},
    {"chat", config::kChat, RunChat},       {"logits", config::kLogits, RunLogits},
    {"doctor", config::kDoctor, RunDoctor},
};

void PrintOverview(std::FILE* out) {
  std::fputs("mirrorsd: lossless speculative decoding across processes.\n\nCommands:\n", out);
  for (const auto& command : kCommands) {
    std::fprintf(out, "  %-10s %s\n", std::string(command.name).c_str(),
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
  return run(*invocation->options);
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
  std::vector<std::string_view> names;
  for (const auto& each : kCommands) {
    if (each.name == command) {
      return Run(SpecOf(each.program), std::vector<std::string>(argv + 2, argv + argc), each.run);
    }
    names.push_back(each.name);
  }
  const std::string closest(config::ClosestName(command, names));
  std::fprintf(stderr, "mirrorsd: unknown command '%s'%s%s%s\n", command.c_str(),
               closest.empty() ? "" : "; did you mean ", closest.c_str(),
               closest.empty() ? "" : "?");
  std::fputs("Try 'mirrorsd --help'.\n", stderr);
  return cell::kExitUsage;
}

}  // namespace
}  // namespace mirrorsd::cli

int main(int argc, char** argv) {
  mirrorsd::cell::StartProcess();
  return mirrorsd::cli::Main(argc, argv);
}
