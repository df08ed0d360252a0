#include "tools/simulate/life/recorded_life.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "services/journal/reader.h"
#include "services/journal/recorder.h"
#include "services/journal/replay.h"
#include "tools/simulate/options.h"
#include "tools/simulate/simulation.h"

namespace mirrorsd::simulate {
namespace {

class ToJournal final : public Watcher {
 public:
  explicit ToJournal(std::string path) : path_(std::move(path)) {}
  void OnConfig(const scheduler::CoreConfig& config) override {
    journal::RecorderOptions options;
    options.path = path_;
    auto recorder = journal::Recorder::Create(config, options);
    ASSERT_TRUE(recorder.ok()) << recorder.status();
    recorder_ = *std::move(recorder);
  }
  void OnEvent(absl::Time now, const scheduler::Event& event) override { recorder_->Record(now, event); }
  void OnActions(absl::Span<const scheduler::Action> actions) override {
    recorder_->RecordActions(actions);
  }
  void Stop() { recorder_->Stop(); }

 private:
  const std::string path_;
  std::unique_ptr<journal::Recorder> recorder_;
};

class RecordedLifeTest : public testing::Test {
 protected:
  RecordedLifeTest() {
    folder_ = std::filesystem::temp_directory_path() /
              ("recorded_life_test." + std::to_string(reinterpret_cast<uintptr_t>(this)) + "." +
               std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "life.journal";
  }
  ~RecordedLifeTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
  std::string path_;
};

// A simulated life is recorded, repeated exactly, and read back as the chances and the load that made it.
TEST_F(RecordedLifeTest, ASimulatedLifeComesBack) {
  auto command = ParseCommand({"--modes", "mirror", "--acceptance", "0.8,0.6", "--rate", "20", "--requests",
                               "40", "--prompt-tokens", "5-9", "--output-tokens", "60", "--branch-budget", "256",
                               "--exit-recall-given-reject", "1:0.4,4:0.7", "--exit-recall", "1:0.6,4:0.9"});
  ASSERT_TRUE(command.ok()) << command.status();
  command->settings.mode = SpeculationMode::kMirror;
  ToJournal recorder(path_);
  Simulate(command->settings, &recorder);
  recorder.Stop();

  auto reader = journal::JournalReader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto report = journal::Replay(reader->get(), nullptr);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_EQ(report->num_proven, report->num_events);

  const auto life = LoadRecordedLife(path_);
  ASSERT_TRUE(life.ok()) << life.status();
  ASSERT_GE(life->kind.acceptance.size(), 2u);
  EXPECT_NEAR(life->kind.acceptance[0], 0.8, 0.06);
  EXPECT_NEAR(life->kind.acceptance[1], 0.6, 0.08);
  EXPECT_GT(life->exit_outcomes, 100);
  EXPECT_NEAR(life->kind.exit_given_reject.At(4), 0.7, 0.15);
  EXPECT_NEAR(life->kind.exit_all.At(4), 0.9, 0.1);
  ASSERT_EQ(life->load.size(), 40u);
  const Workload& load = command->settings.workload;
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(life->load[i].prompt_tokens, load.Request(command->settings.seed, i).prompt_tokens);
    EXPECT_EQ(life->load[i].output_tokens, 60);
  }
  EXPECT_EQ(life->load[0].at_ns, 0);
  EXPECT_EQ(life->load[1].at_ns, load.GapNs(command->settings.seed, 1));
}

TEST_F(RecordedLifeTest, OtherFilesAreRefused) {
  EXPECT_FALSE(LoadRecordedLife(path_).ok());
  std::ofstream(path_) << "{\"at_s\": 1}\n";
  const auto life = LoadRecordedLife(path_);
  EXPECT_EQ(life.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mirrorsd::simulate
