// Every event and the whole configuration survive the journal.

#include "services/wire/journal/journal_wire.h"

#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/unit/services/wire/messages.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using scheduler::CoreConfig;
using scheduler::Event;

std::vector<Event> EveryEvent() {
  using namespace scheduler;
  std::vector<Event> events = {
      Submitted{7, FullSubmit()},       Cancelled{7},        WorkerAttached{3, FullHello()},
      WorkerDetached{3, "\xff broken"}, WorkerQueueFull{3}, DrainRequested{},
      TimePassed{},
  };
  const auto report = [&](ReportItem item) {
    events.push_back(WorkerReported{3, Fence{5, 6}, std::move(item)});
  };
  for (const WorkerReport& from : FullReports()) {
    if (const auto* done = std::get_if<VerifyDone>(&from)) {
      for (const VerifyItemDone& item : done->items) report(VerifyItemReport{done->round_id, item});
      report(VerifyRoundDone{done->round_id, done->times, done->blocks});
    } else if (const auto* exit = std::get_if<EarlyExitReported>(&from)) {
      report(EarlyExitItemReport{exit->round_id, exit->items[0]});
      report(EarlyExitRoundReport{exit->round_id, exit->sent_at_ns, exit->times});
    } else {
      std::visit(
          [&](const auto& item) {
            if constexpr (std::is_constructible_v<ReportItem, decltype(item)>) report(item);
          },
          from);
    }
  }
  return events;
}

std::string Bytes(absl::Time now, const Event& event) {
  pb::JournalEvent message;
  Write(now, event, &message);
  return message.SerializeAsString();
}

TEST(JournalWireTest, EveryEventSurvives) {
  std::vector<bool> seen(std::variant_size_v<Event>);
  std::vector<bool> items(std::variant_size_v<scheduler::ReportItem>);
  const absl::Time now = absl::FromUnixNanos(1234567890123456789);
  for (const Event& event : EveryEvent()) {
    seen[event.index()] = true;
    const std::string bytes = Bytes(now, event);
    pb::JournalEvent message;
    ASSERT_TRUE(message.ParseFromString(bytes));
    const auto parsed = Parse(message);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->now, now);
    ASSERT_EQ(parsed->event.index(), event.index());
    EXPECT_EQ(Bytes(parsed->now, parsed->event), bytes);
    if (const auto* reported = std::get_if<scheduler::WorkerReported>(&event)) {
      items[reported->item.index()] = true;
      const auto& back = std::get<scheduler::WorkerReported>(parsed->event);
      EXPECT_EQ(back.item.index(), reported->item.index());
      EXPECT_EQ(back.fence, (Fence{5, 6}));
      EXPECT_EQ(back.connection, 3u);
    }
  }
  EXPECT_EQ(seen, std::vector<bool>(seen.size(), true));
  EXPECT_EQ(items, std::vector<bool>(items.size(), true));
}

TEST(JournalWireTest, BadEventsNameTheirField) {
  pb::JournalEvent message;
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "event");
  message.mutable_submitted();
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "submitted.request");
  message.mutable_worker_reported();
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "worker_reported.item");
  message.mutable_worker_reported()->mutable_verify_item()->mutable_item()->set_num_accepted(-1);
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field,
            "worker_reported.verify_item.num_accepted");
}

RecordedLife FullLife() {
  RecordedLife life;
  life.build = {.version = "1.2.3", .compiler = "cc"};
  life.started = absl::FromUnixNanos(5);
  CoreConfig& config = life.config;
  config.scheduler_epoch = 0xFFFF'FFFF'FFFF'FFFFu;
  config.vocabulary_fingerprint = "v";
  config.model_fingerprint = "m";
  config.allow_other_numerics = true;
  config.speculation = SpeculationMode::kOff;
  config.num_speculative_tokens = 9;
  config.queue_timeout = absl::InfiniteDuration();
  config.worker_timeout = absl::Seconds(0.1) + absl::Nanoseconds(1) / 4;  // no whole nanosecond
  life.policies = {{"none", SpeculationMode::kOff}, {"some", SpeculationMode::kSerial}};
  return life;
}

TEST(JournalWireTest, TheConfigurationSurvivesToTheLastTick) {
  pb::JournalLife message;
  Write(FullLife(), &message);
  const auto parsed = Parse(message);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->build, FullLife().build);
  EXPECT_EQ(parsed->policies, FullLife().policies);
  EXPECT_EQ(parsed->config.scheduler_epoch, FullLife().config.scheduler_epoch);
  EXPECT_EQ(parsed->config.queue_timeout, absl::InfiniteDuration());
  EXPECT_EQ(parsed->config.worker_timeout, FullLife().config.worker_timeout);
  EXPECT_TRUE(parsed->config.allow_other_numerics);
  pb::JournalLife again;
  Write(*parsed, &again);
  EXPECT_EQ(again.SerializeAsString(), message.SerializeAsString());
}

TEST(JournalWireTest, AConfigurationThatWouldFailACheckIsRefused) {
  pb::JournalLife message;
  Write(FullLife(), &message);
  message.mutable_config()->set_speculation(pb::SPECULATION_MODE_MIRROR);
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "config.speculation");
  message.mutable_config()->set_max_num_seqs(0);
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "config.max_num_seqs");
  message.set_schema_revision(kSchemaRevision + 1);
  EXPECT_EQ(GetErrorInfo(Parse(message).status())->field, "schema_revision");
}

}  // namespace
}  // namespace mirrorsd::wire
