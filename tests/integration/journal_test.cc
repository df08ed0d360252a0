// The journal of a real life: a cell under load whose workers are lost and come back. What it claims: the
// file repeats that life exactly, byte for byte and action for action, and says clearly where it cannot.

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/journal/action_digest.h"
#include "services/journal/frame.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"
#include "services/journal/scenario.h"
#include "services/journal/story.h"
#include "tests/integration/cell.h"
#include "tests/scenarios/transcript.h"

namespace mirrorsd::testing {
namespace {

using journal::JournalEntry;
using journal::JournalReader;
using journal::ReplayReport;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uint64_t kEvents = 10'000;

std::string Folder() {
  static const std::string folder = [] {
    std::string name = ::testing::TempDir() + "mirrorsd-journal-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    return name;
  }();
  return folder;
}

class JournalTest : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { std::filesystem::remove_all(Folder()); }
};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::unique_ptr<JournalReader> ReaderOf(const std::string& bytes) {
  auto reader = JournalReader::Read(std::make_unique<std::istringstream>(bytes), "life");
  EXPECT_TRUE(reader.ok()) << reader.status();
  return reader.ok() ? *std::move(reader) : nullptr;
}

absl::StatusOr<ReplayReport> ReplayBytes(const std::string& bytes) {
  return journal::Replay(ReaderOf(bytes).get(), nullptr);
}

MicroModelOptions Target() { return {.max_positions = 1024, .seed = 7}; }

MicroModelOptions PartlyAgreeing() {
  MicroModelOptions options = Target();
  options.noise = 0.1f;
  return options;
}

std::vector<TokenId> Prompt(int seed, int length) {
  std::vector<TokenId> ids;
  for (int i = 0; i < length; ++i) ids.push_back((seed * 31 + i * 17 + i * i * seed) % 64);
  return ids;
}

// One wave of requests, of which some are cancelled, while workers are lost in mid-stream.
void RunWave(TestCell* cell, int wave) {
  std::vector<std::shared_ptr<Generation>> running;
  for (int i = 0; i < 24; ++i) {
    SubmitRequest request =
        cell->Request(Prompt(wave * 100 + i, 5 + i), 48 + i,
                      i % 4 == 3 ? SpeculationMode::kOff : SpeculationMode::kSerial);
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
    request.sampling.seed = i;
    running.push_back(cell->Submit(request));
  }
  running[5]->WaitForTokens(4);
  running[5]->Cancel();
  if (wave % 2 == 0) cell->AddVerifier("v1", Target());  // in place of the one that is there
  if (wave % 3 == 1) cell->AddDraft("d", PartlyAgreeing());
  for (const auto& generation : running) generation->Wait();
}

// The life of a cell, captured once for all tests.
const std::string& Life() {
  static const std::string* const life = [] {
    const std::string path = Folder() + "/life";
    scheduler::SchedulerServerOptions options;
    options.journal.path = path;
    options.journal.version = "1.2.3";
    {
      TestCell cell(options);
      cell.AddVerifier("v1", Target());
      cell.AddVerifier("v2", Target());
      cell.AddDraft("d", PartlyAgreeing());
      EXPECT_TRUE(cell.WaitForWorkers(2, 1));
      const auto num_events = [&] {
        uint64_t num = 0;
        const std::string bytes = ReadFile(path);
        const auto reader = ReaderOf(bytes);
        JournalEntry entry;
        while (reader->Next(&entry).value_or(false)) num = reader->event_number();
        return num;
      };
      int wave = 0;
      do {
        RunWave(&cell, wave++);
      } while (wave < 40 && num_events() < kEvents);
    }
    return new std::string(ReadFile(path));
  }();
  return *life;
}

TEST_F(JournalTest, ALifeUnderLoadRepeatsExactly) {
  const auto reader = ReaderOf(Life());
  EXPECT_EQ(reader->head().life.build.version, "1.2.3");
  uint64_t losses = 0, resumes = 0, cancels = 0;
  const auto report = journal::Replay(reader.get(), [&](const journal::ReplayStep& step) {
    losses += std::holds_alternative<scheduler::WorkerDetached>(step.recorded->event);
    for (const scheduler::Action& action : step.actions) {
      const auto* commit = std::get_if<scheduler::CommitTokens>(&action);
      if (commit == nullptr) continue;
      resumes += commit->committed.finish != FinishReason::kNone ? commit->committed.stats.resumes : 0;
    }
    cancels += std::holds_alternative<scheduler::Cancelled>(step.recorded->event);
  });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_GE(report->num_events, kEvents);
  EXPECT_EQ(report->num_proven, report->num_events);
  EXPECT_EQ(reader->ending(), journal::Ending::kStopped);
  EXPECT_EQ(reader->EndingText(), "");
  // The life was worth recording.
  EXPECT_GT(losses, 2u);
  EXPECT_GT(resumes, 2u);
  EXPECT_GT(cancels, 0u);
}

TEST_F(JournalTest, WritingTheLifeAgainGivesTheSameBytes) {
  namespace pb = ::mirrorsd::internal::v1;
  const auto reader = ReaderOf(Life());
  auto config = journal::ConfigOf(reader->head().life);
  ASSERT_TRUE(config.ok()) << config.status();
  scheduler::Core core(*config);
  std::string again(journal::kMagic), frame;
  const auto append = [&](const pb::JournalRecord& record) {
    ASSERT_TRUE(journal::MakeFrame(record, &frame));
    again += frame;
  };
  pb::JournalRecord life;
  wire::Write(reader->head().life, life.mutable_life());
  append(life);
  journal::ActionDigest digest;
  uint64_t num_events = 0;
  JournalEntry entry;
  while (reader->Next(&entry).value_or(false)) {
    pb::JournalRecord record;
    if (const auto* event = std::get_if<wire::RecordedEvent>(&entry)) {
      std::vector<scheduler::Action> actions;
      core.Step(event->now, event->event, &actions);
      for (const scheduler::Action& action : actions) digest.Add(action);
      ++num_events;
      wire::Write(event->now, event->event, record.mutable_event());
    } else {
      record.mutable_checkpoint()->set_num_events(num_events);
      record.mutable_checkpoint()->set_num_actions(digest.num_actions());
      record.mutable_checkpoint()->set_actions_sha256(digest.Bytes());
    }
    append(record);
  }
  pb::JournalRecord end;
  end.mutable_end();
  append(end);
  ASSERT_EQ(again.size(), Life().size());
  EXPECT_TRUE(again == Life());
}

TEST_F(JournalTest, EveryTornTailIsRecognised) {
  // The last records are a checkpoint and the end; each cut leaves all events, or all but some.
  const size_t size = Life().size();
  for (size_t cut : {size_t{1}, size_t{7}, size_t{20}, size_t{200}}) {
    const auto reader = ReaderOf(Life().substr(0, size - cut));
    const auto report = journal::Replay(reader.get(), nullptr);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->difference, "");
    EXPECT_GE(report->num_events, kEvents - 64);
    EXPECT_EQ(reader->ending(), journal::Ending::kTorn);
    EXPECT_THAT(reader->EndingText(), HasSubstr("part of a record"));
    EXPECT_LE(report->num_proven, report->num_events);
  }
}

TEST_F(JournalTest, AFlippedBitIsFoundWhereverItIs) {
  const size_t size = Life().size();
  for (size_t at : {size_t{0}, size_t{20}, size_t{25}, size_t{60}, size / 3, size / 2, size - 2}) {
    std::string damaged = Life();
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    auto reader = JournalReader::Read(std::make_unique<std::istringstream>(damaged), "life");
    if (!reader.ok()) {
      EXPECT_LT(at, 1000u) << reader.status();
      EXPECT_THAT(std::string(reader.status().message()), HasSubstr("life: "));
      continue;
    }
    const auto report = journal::Replay(reader->get(), nullptr);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ((*reader)->ending(), journal::Ending::kDamaged) << at;
    EXPECT_THAT((*reader)->EndingText(), HasSubstr("damaged at byte"));
  }
}

// The life with another first record.
std::string WithLife(const std::function<void(internal::v1::JournalLife*)>& change) {
  std::istringstream in(Life());
  journal::FrameReader frames(&in);
  EXPECT_TRUE(frames.ReadMagic());
  std::string bytes, frame;
  EXPECT_EQ(frames.Read(&bytes), journal::FrameReader::Result::kFrame);
  internal::v1::JournalRecord record;
  EXPECT_TRUE(record.ParseFromString(bytes));
  change(record.mutable_life());
  EXPECT_TRUE(journal::MakeFrame(record, &frame));
  return std::string(journal::kMagic) + frame + Life().substr(frames.offset());
}

TEST_F(JournalTest, ACoreThatDoesSomethingElseIsFound) {
  const auto same = ReplayBytes(WithLife([](auto* life) { life->set_version("another"); }));
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->difference, "");
  const auto other = ReplayBytes(WithLife(
      [](auto* life) { life->mutable_config()->set_max_prefill_rows_per_round(16); }));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_THAT(other->difference, HasSubstr("at the checkpoint behind event 1024"));
  EXPECT_THAT(other->difference, HasSubstr("up to event 0 they agree"));
  EXPECT_EQ(other->num_events, 1024u);
}

TEST_F(JournalTest, AnotherBuildIsToldByName) {
  const std::string schema = WithLife([](auto* life) { life->set_schema_revision(99); });
  const auto reader = JournalReader::Read(std::make_unique<std::istringstream>(schema), "life");
  EXPECT_THAT(std::string(reader.status().message()), HasSubstr("schema_revision"));
  const auto policy = ReplayBytes(WithLife([](auto* life) {
    for (auto& policy : *life->mutable_config()->mutable_policies()) {
      if (policy.name() == "fixed_window") policy.set_name("clairvoyant");
    }
  }));
  EXPECT_THAT(std::string(policy.status().message()), HasSubstr("no policy 'clairvoyant'"));
  EXPECT_THAT(std::string(policy.status().message()), HasSubstr("recorded by 1.2.3"));
}

std::string StoryOf(const std::string& bytes, const std::string& request_id) {
  const auto story = journal::TellStory(ReaderOf(bytes).get(), request_id);
  EXPECT_TRUE(story.ok()) << story.status();
  return story.value_or("");
}

TEST_F(JournalTest, TellsTheStoryOfARequest) {
  // The id of a finished one that moved to another verifier, and of a cancelled one.
  std::string resumed, cancelled;
  std::map<ConnectionId, std::string> ids;
  const auto report = journal::Replay(ReaderOf(Life()).get(), [&](const journal::ReplayStep& step) {
    const scheduler::Event& event = step.recorded->event;
    if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
      ids[submitted->stream] = submitted->request.request_id;
    }
    if (const auto* cancel = std::get_if<scheduler::Cancelled>(&event)) {
      cancelled = ids[cancel->stream];
    }
    for (const scheduler::Action& action : step.actions) {
      const auto* commit = std::get_if<scheduler::CommitTokens>(&action);
      if (commit != nullptr && commit->committed.finish == FinishReason::kLength &&
          commit->committed.stats.resumes > 0 && commit->committed.stats.accepted_tokens > 0) {
        resumed = ids[commit->stream];
      }
    }
  });
  ASSERT_TRUE(report.ok()) << report.status();

  const std::string moved = StoryOf(Life(), resumed);
  for (const char* words : {"submitted: ", " as sequence ", "has started it", "prompt tokens [0, ",
                            "window of ", "accepted", "output [0, 1) committed", "is lost: ",
                            "placed again at verifier ", "of them output", "ended: length; "}) {
    EXPECT_THAT(moved, HasSubstr(words));
  }
  const std::string stopped = StoryOf(Life(), cancelled);
  EXPECT_THAT(stopped, HasSubstr("the client cancelled"));
  EXPECT_THAT(stopped, HasSubstr("failed: CANCELLED"));

  const auto unknown = journal::TellStory(ReaderOf(Life()).get(), "nobody");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kNotFound);
}

// The first line that differs, with those before it.
std::string FirstDifference(const std::string& expected, const std::string& actual) {
  std::istringstream left(expected), right(actual);
  std::string left_line, right_line, before;
  while (true) {
    const bool more = static_cast<bool>(std::getline(left, left_line));
    const bool more_right = static_cast<bool>(std::getline(right, right_line));
    if (!more && !more_right) return "";
    if (more != more_right || left_line != right_line) {
      return absl::StrCat(before.substr(before.size() - std::min<size_t>(before.size(), 2000)),
                          "expected: ", left_line, "\nactual:   ", right_line);
    }
    absl::StrAppend(&before, left_line, "\n");
  }
}

TEST_F(JournalTest, AStretchFromTheBeginningIsAScenarioThatRuns) {
  const auto text = journal::WriteScenario(ReaderOf(Life()).get(), 1, 4000);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, StartsWith("# purpose: events 1 to 4000 of a recorded life\nconfig "));
  const auto again = scheduler::RunTranscript(*text);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(FirstDifference(*text, *again), "");
  const auto middle = journal::WriteScenario(ReaderOf(Life()).get(), 2000, 2100);
  EXPECT_THAT(*middle, HasSubstr("# It begins in the middle of that life: "));
  EXPECT_FALSE(journal::WriteScenario(ReaderOf(Life()).get(), 10'000'000, 10'000'001).ok());
}

TEST_F(JournalTest, TheRingTellsTheStoryOfARequestThatBeganBeforeIt) {
  scheduler::SchedulerServerOptions options;
  options.journal.ring_folder = Folder();
  options.journal.ring_events = 200;
  TestCell cell(options);
  cell.AddVerifier("v1", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  EXPECT_EQ(cell.scheduler().journal_path(), "");
  SubmitRequest request = cell.Request(Prompt(1, 20), 900, SpeculationMode::kSerial);
  request.request_id = "long";
  const auto running = cell.Submit(request);
  running->WaitForTokens(600);
  const auto path = cell.scheduler().DumpRing("asked for");
  ASSERT_TRUE(path.ok()) << path.status();
  running->Wait();
  const std::string bytes = ReadFile(*path);
  const auto reader = ReaderOf(bytes);
  EXPECT_TRUE(reader->head().is_ring);
  EXPECT_GT(reader->head().first_event, 1u);
  EXPECT_EQ(reader->head().ring_reason, "asked for");
  const std::string story = StoryOf(bytes, "long");
  EXPECT_THAT(story, HasSubstr("window of "));
  EXPECT_THAT(story, Not(HasSubstr("submitted: ")));
  EXPECT_GT(std::count(story.begin(), story.end(), '\n'), 20);
  const auto report = ReplayBytes(bytes);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("cannot be repeated"));
}

}  // namespace
}  // namespace mirrorsd::testing
