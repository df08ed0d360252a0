// The recorder around a small life: limits, disks, names of files, and what a failed CHECK leaves.

#include "services/journal/recorder.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/policy/policies.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"
#include "services/journal/story.h"

namespace mirrorsd::journal {
namespace {

using scheduler::Action;
using scheduler::CoreConfig;
using scheduler::Event;
using ::testing::HasSubstr;

class RecorderTest : public ::testing::Test {
 protected:
  RecorderTest() {
    folder_ = ::testing::TempDir() + "mirrorsd-recorder-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    config_.policies.assign(scheduler::Policies().begin(), scheduler::Policies().end());
    options_.path = folder_ + "/life";
    options_.ring_folder = folder_;
    options_.flush_interval = absl::Milliseconds(1);
  }
  ~RecorderTest() override { std::filesystem::remove_all(folder_); }

  void Start() {
    auto recorder = Recorder::Create(config_, options_);
    ASSERT_TRUE(recorder.ok()) << recorder.status();
    recorder_ = *std::move(recorder);
    core_ = std::make_unique<scheduler::Core>(config_);
  }

  void Step(const Event& event) {
    now_ += absl::Microseconds(10);
    recorder_->Record(now_, event);
    std::vector<Action> actions;
    core_->Step(now_, event, &actions);
    recorder_->RecordActions(actions);
  }

  // Requests that are refused, for there is no verifier: an event and an action each.
  void Submit(int num) {
    for (int i = 0; i < num; ++i) {
      SubmitRequest request;
      request.request_id = absl::StrCat("request-", ++num_requests_);
      request.vocabulary_fingerprint = "v";
      request.token_ids = {1, 2, 3};
      request.max_tokens = 4;
      Step(scheduler::Submitted{static_cast<ConnectionId>(num_requests_), request});
    }
  }

  // What replay makes of the file.
  ReplayReport Replayed(Ending ending, const std::string& path = "") {
    auto reader = JournalReader::Open(path.empty() ? options_.path : path);
    EXPECT_TRUE(reader.ok()) << reader.status();
    if (!reader.ok()) return {};
    const auto report = Replay(reader->get(), nullptr);
    EXPECT_TRUE(report.ok()) << report.status();
    EXPECT_EQ((*reader)->ending(), ending) << (*reader)->EndingText();
    return report.value_or(ReplayReport{});
  }

  std::vector<std::string> Rings() {
    std::vector<std::string> rings;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().filename().string().rfind("mirrorsd-ring-", 0) == 0) {
        rings.push_back(entry.path().string());
      }
    }
    return rings;
  }

  std::string folder_;
  CoreConfig config_;
  RecorderOptions options_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<scheduler::Core> core_;
  absl::Time now_ = absl::FromUnixNanos(1000);
  int num_requests_ = 0;
};

TEST_F(RecorderTest, AWholeLifeIsProvenToItsLastEvent) {
  Start();
  Submit(2500);
  recorder_->Stop();
  recorder_->Stop();
  const ReplayReport report = Replayed(Ending::kStopped);
  EXPECT_EQ(report.num_events, 2500u);
  EXPECT_EQ(report.num_actions, 2500u);
  EXPECT_EQ(report.num_proven, 2500u);
  struct stat file;
  ASSERT_EQ(stat(options_.path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600u) << "prompts are in it";
}

TEST_F(RecorderTest, AnEarlierLifeIsNeverOverwritten) {
  for (int life = 0; life < 3; ++life) {
    Start();
    Submit(life + 1);
    EXPECT_EQ(recorder_->path(), life == 0 ? options_.path : absl::StrCat(options_.path, ".", life));
    recorder_.reset();
  }
  EXPECT_EQ(Replayed(Ending::kStopped).num_events, 1u);
  EXPECT_EQ(Replayed(Ending::kStopped, options_.path + ".2").num_events, 3u);
  options_.path = folder_ + "/no/such/folder";
  const auto nowhere = Recorder::Create(config_, options_);
  EXPECT_EQ(GetErrorInfo(nowhere.status())->reason, "BAD_FILE");
}

TEST_F(RecorderTest, AtTheSizeLimitTheRecordEndsAndTheLifeGoesOn) {
  options_.limit_bytes = 64 << 10;
  Start();
  Submit(5000);
  recorder_->Stop();
  EXPECT_LE(std::filesystem::file_size(options_.path), options_.limit_bytes);
  const ReplayReport report = Replayed(Ending::kSizeLimit);
  EXPECT_GT(report.num_events, 300u);
  EXPECT_LT(report.num_events, 5000u);
  EXPECT_EQ(report.num_proven, report.num_events);
  // The ring went on.
  const auto ring = recorder_->DumpRing("asked for");
  ASSERT_TRUE(ring.ok()) << ring.status();
  auto reader = JournalReader::Open(*ring);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto story = TellStory(reader->get(), "request-5000");
  ASSERT_TRUE(story.ok()) << story.status();
  EXPECT_THAT(*story, HasSubstr("failed: UNAVAILABLE"));
}

// A limit on files' sizes stands for a full disk: the write fails.
TEST_F(RecorderTest, AFullDiskEndsTheRecordMarked) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 20'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Start();
  for (int i = 0; i < 50; ++i) {
    Submit(50);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  recorder_->Stop();
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  const ReplayReport report = Replayed(Ending::kDisk);
  EXPECT_LT(report.num_events, 2500u);
}

TEST_F(RecorderTest, AFailedCheckLeavesTheRingAndTheWholeJournal) {
  options_.flush_interval = absl::Hours(1);  // nothing is written but by the last words
  EXPECT_DEATH(
      {
        Start();
        Submit(100);
        CHECK(false) << "a bug";
      },
      "a bug.*\nthe last events of the scheduler are in .*/mirrorsd-ring-");
  EXPECT_EQ(Replayed(Ending::kCut).num_events, 100u);
  ASSERT_EQ(Rings().size(), 1u);
  auto reader = JournalReader::Open(Rings()[0]);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->head().ring_reason, "a CHECK failed");
  const auto story = TellStory(reader->get(), "request-100");
  ASSERT_TRUE(story.ok()) << story.status();
}

TEST_F(RecorderTest, ACheckOfAnotherThreadDumpsWhileEventsAreRecorded) {
  options_.path.clear();
  EXPECT_DEATH(
      {
        Start();
        std::thread other([] {
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          CHECK(false) << "elsewhere";
        });
        while (true) Submit(1);
      },
      "the last events of the scheduler are in ");
  ASSERT_EQ(Rings().size(), 1u);
  auto reader = JournalReader::Open(Rings()[0]);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(TellStory(reader->get(), "nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE((*reader)->ending(), Ending::kDamaged);
}

}  // namespace
}  // namespace mirrorsd::journal
