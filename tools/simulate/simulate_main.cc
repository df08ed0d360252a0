// mirrorsd-simulate: the scheduler core in virtual time with modelled workers. docs/simulator.md.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/bench/result_line.h"
#include "services/journal/recorder.h"
#include "tools/simulate/life/recorded_life.h"
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

// Records a life as a scheduler's --journal does.
class LifeRecorder final : public Watcher {
 public:
  explicit LifeRecorder(std::string path) : path_(std::move(path)) {}
  void OnConfig(const scheduler::CoreConfig& config) override {
    journal::RecorderOptions options;
    options.path = path_;
    options.version = MIRRORSD_VERSION;
    auto recorder = journal::Recorder::Create(config, std::move(options));
    status_ = recorder.status();
    if (recorder.ok()) recorder_ = *std::move(recorder);
  }
  void OnEvent(absl::Time now, const scheduler::Event& event) override {
    if (recorder_ != nullptr) recorder_->Record(now, event);
  }
  void OnActions(absl::Span<const scheduler::Action> actions) override {
    if (recorder_ != nullptr) recorder_->RecordActions(actions);
  }
  // Ends the record; what went wrong.
  absl::Status Stop() {
    if (recorder_ != nullptr) {
      recorder_->Stop();
      std::printf("recorded in %s\n", recorder_->path().c_str());
    }
    return status_;
  }

 private:
  const std::string path_;
  std::unique_ptr<journal::Recorder> recorder_;
  absl::Status status_;
};

absl::Status TakeRecordedLives(Command* command) {
  if (!command->text_from_journal.empty()) {
    absl::StatusOr<RecordedLife> life = LoadRecordedLife(command->text_from_journal);
    if (!life.ok()) return life.status();
    if (life->windows < kMinRows) {
      return BadFile(command->text_from_journal, "too few windows were verified in this life",
                     absl::StrCat("at least ", kMinRows));
    }
    TextKind kind = command->settings.kinds[0];
    kind.name = life->kind.name;
    kind.acceptance = life->kind.acceptance;
    // A life without mirror rounds says nothing of the exit.
    if (!life->kind.exit_given_reject.points().empty()) {
      kind.exit_given_reject = life->kind.exit_given_reject;
    }
    if (!life->kind.exit_all.points().empty()) kind.exit_all = life->kind.exit_all;
    command->settings.kinds = {kind};
  }
  if (!command->load_from_journal.empty()) {
    absl::StatusOr<RecordedLife> life = LoadRecordedLife(command->load_from_journal);
    if (!life.ok()) return life.status();
    if (life->load.empty()) return BadFile(command->load_from_journal, "no request ended in this life");
    command->settings.workload.requests = static_cast<int32_t>(life->load.size());
    command->settings.workload.trace = std::move(life->load);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  absl::StatusOr<Command> command = ParseCommand({argv + 1, argv + argc});
  if (!command.ok()) return Fail(command.status());
  if (command->help) {
    std::fputs(HelpText().c_str(), stdout);
    return kDone;
  }
  if (command->version) {
    std::printf("mirrorsd-simulate %s\n", MIRRORSD_VERSION);
    return kDone;
  }
  if (absl::Status status = TakeRecordedLives(&*command); !status.ok()) return Fail(status);
  const std::string label =
      command->label.empty() ? DescribeSettings(command->settings) : command->label;
  std::vector<Figures> modes;
  for (const SpeculationMode mode : command->modes) {
    Settings settings = command->settings;
    settings.mode = mode;
    LifeRecorder recorder(command->journal);
    modes.push_back(Simulate(settings, command->journal.empty() ? nullptr : &recorder));
    if (absl::Status status = recorder.Stop(); !status.ok()) return Fail(status);
  }
  std::printf("%s\n%s", label.c_str(), TableText(modes).c_str());
  if (absl::Status status = WriteResults(*command, label, modes); !status.ok()) return Fail(status);
  return kDone;
}

}  // namespace
}  // namespace mirrorsd::simulate

int main(int argc, char** argv) { return mirrorsd::simulate::Main(argc, argv); }
