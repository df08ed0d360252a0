#include "services/wire/fleet_wire.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/unit/services/wire/messages.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

pb::WorkerMessage AsMessage(const std::vector<WorkerReport>& reports) {
  pb::WorkerMessage message;
  message.set_scheduler_epoch(1);
  message.set_incarnation(2);
  for (const WorkerReport& report : reports) Write(report, message.add_reports());
  return message;
}

pb::SchedulerMessage AsMessage(const std::vector<WorkerCommand>& commands) {
  pb::SchedulerMessage message;
  message.set_scheduler_epoch(1);
  message.set_incarnation(2);
  for (const WorkerCommand& command : commands) Write(command, message.add_commands());
  return message;
}

TEST(FleetWireTest, EveryReportSurvivesTheWire) {
  const std::vector<WorkerReport> reports = FullReports();
  ASSERT_EQ(reports.size(), std::variant_size_v<WorkerReport>);
  const pb::WorkerMessage message = AsMessage(reports);
  pb::WorkerMessage received;
  ASSERT_TRUE(received.ParseFromString(message.SerializeAsString()));
  const auto parsed = Parse(received);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->fence, (Fence{1, 2}));
  const auto& back = std::get<std::vector<WorkerReport>>(parsed->content);
  ASSERT_EQ(back.size(), reports.size());
  for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i].index(), reports[i].index());
  // The schema has a place for every field of the structs, so equal bytes are equal structs, provided
  // that parsing keeps what writing wrote; the fields below were chosen to differ from defaults.
  EXPECT_EQ(AsMessage(back).SerializeAsString(), message.SerializeAsString());

  const auto& done = std::get<VerifyDone>(back[3]);
  EXPECT_EQ(done.items[0].correction_token, TokenId{0});
  EXPECT_EQ(done.items[1].correction_token, std::nullopt);
  EXPECT_EQ(done.items[2].error->reason, "NAN_LOGITS");
  EXPECT_EQ(done.times.sample_ns, 5);
  const auto& exit = std::get<EarlyExitReported>(back[2]);
  EXPECT_EQ(exit.items[0].rows[0].drafted_score, 1.5f);
  EXPECT_EQ(exit.items[0].rows[1].drafted_score, std::nullopt);
  EXPECT_EQ(exit.items[0].rows[0].candidates[1].token, 4);
}

TEST(FleetWireTest, EveryCommandSurvivesTheWire) {
  const std::vector<WorkerCommand> commands = FullCommands();
  ASSERT_EQ(commands.size(), std::variant_size_v<WorkerCommand>);
  const pb::SchedulerMessage message = AsMessage(commands);
  pb::SchedulerMessage received;
  ASSERT_TRUE(received.ParseFromString(message.SerializeAsString()));
  const auto parsed = Parse(received);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& back = std::get<std::vector<WorkerCommand>>(parsed->content);
  ASSERT_EQ(back.size(), commands.size());
  for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i].index(), commands[i].index());
  EXPECT_EQ(AsMessage(back).SerializeAsString(), message.SerializeAsString());

  EXPECT_EQ(std::get<StartSequence>(back[0]).sampling, FullSampling());
  const auto& verify = std::get<StartVerify>(back[2]);
  EXPECT_TRUE(verify.items[0].is_prefill);
  EXPECT_FALSE(verify.items[2].is_prefill);
  EXPECT_TRUE(verify.items[2].window.empty());
  const auto& rollout = std::get<StartRollout>(back[3]);
  EXPECT_EQ(rollout.roots[0].token, TokenId{11});
  EXPECT_EQ(rollout.roots[1].token, std::nullopt);
  EXPECT_EQ(rollout.roots[1].own_rank, 3);
}

TEST(FleetWireTest, GreetingsSurviveTheWire) {
  pb::WorkerMessage hello_message;
  Write(FullHello(), hello_message.mutable_hello());
  const auto hello = Parse(hello_message);
  ASSERT_TRUE(hello.ok()) << hello.status();
  pb::Hello again;
  Write(std::get<Hello>(hello->content), &again);
  EXPECT_EQ(again.SerializeAsString(), hello_message.hello().SerializeAsString());
  EXPECT_EQ(std::get<Hello>(hello->content).role, WorkerRole::kDraft);
  EXPECT_EQ(std::get<Hello>(hello->content).process_id, 42);

  pb::SchedulerMessage message;
  Write(Welcome{5, 6}, message.mutable_welcome());
  const auto welcome = Parse(message);
  ASSERT_TRUE(welcome.ok());
  EXPECT_EQ(std::get<Welcome>(welcome->content).incarnation, 6u);
  Write(Refused{"NO", "because", true}, message.mutable_refused());
  const auto refused = Parse(message);
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(std::get<Refused>(refused->content).reason, "NO");
  EXPECT_TRUE(std::get<Refused>(refused->content).retryable);
}

TEST(FleetWireTest, HelloOfAnotherRevisionIsPassedOnToBeRefusedByName) {
  pb::WorkerMessage message;
  Write(FullHello(), message.mutable_hello());
  message.mutable_hello()->set_schema_revision(kSchemaRevision + 1);
  message.mutable_hello()->set_context_length(-5);  // may mean anything there
  const auto hello = Parse(message);
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(std::get<Hello>(hello->content).schema_revision, kSchemaRevision + 1);
  EXPECT_EQ(std::get<Hello>(hello->content).name, "draft-0");
}

TEST(FleetWireTest, TextForPeopleIsCutAndMadeUtf8) {
  const std::string bad = std::string(5000, 'x') + "\xff";
  pb::WorkerReport report;
  Write(WorkerReport(VerifyDone{
            .round_id = 1,
            .items = {{.sequence_id = 1, .error = WorkerError{"R", "\xff" + bad}}}}),
        &report);
  EXPECT_EQ(report.verify_done().items(0).error().message().size(), 4096u);
  EXPECT_EQ(report.verify_done().items(0).error().message().substr(0, 2), "?x");
  pb::WorkerReport received;
  EXPECT_TRUE(received.ParseFromString(report.SerializeAsString()));
}

}  // namespace
}  // namespace mirrorsd::wire
