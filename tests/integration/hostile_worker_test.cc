// Workers that lie to a running cell: a draft that answers with nonsense, a stream that speaks with another's
// fence, one that sends what does not validate. The tokens of requests are the model's all the same, and
// the liar's stream alone is closed, if any.

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mirrorsd/internal/v1/fleet.grpc.pb.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/status_wire.h"
#include "tests/integration/cell.h"

namespace mirrorsd::testing {
namespace {

namespace pb = ::mirrorsd::internal::v1;

MicroModelOptions Target() { return {.max_positions = 1024, .seed = 7}; }

// A draft over a raw stream. It says it is ready for every sequence and answers every rollout at random:
// right shapes with wrong tokens, wrong rounds, unknown sequences, too many tokens, silence.
class LyingDraft {
 public:
  LyingDraft(std::shared_ptr<grpc::Channel> channel, uint64_t seed)
      : random_(seed), stub_(pb::Fleet::NewStub(channel)), stream_(stub_->Attach(&context_)) {
    pb::WorkerMessage message;
    wire::Write(ForeignDraftHello("liar"), message.mutable_hello());
    stream_->Write(message);
    pb::SchedulerMessage welcome;
    if (stream_->Read(&welcome) && welcome.has_welcome()) {
      fence_ = {welcome.welcome().scheduler_epoch(), welcome.welcome().incarnation()};
      thread_ = std::thread([this] { Run(); });
    }
  }
  ~LyingDraft() {
    context_.TryCancel();
    if (thread_.joinable()) thread_.join();
  }
  int num_lies() const { return num_lies_.load(); }

 private:
  void Run() {
    pb::SchedulerMessage incoming;
    while (stream_->Read(&incoming)) {
      const auto parsed = wire::Parse(incoming);
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      const auto* commands = std::get_if<std::vector<WorkerCommand>>(&parsed->content);
      if (commands == nullptr) continue;
      for (const WorkerCommand& command : *commands) {
        if (const auto* start = std::get_if<StartSequence>(&command)) {
          Send(SequenceState{.sequence_id = start->sequence_id,
                             .state = DraftSequenceState::kReady,
                             .draft_kv_length = start->total_length,
                             .blocks = {.total = 1000, .free = 900}});
        } else if (const auto* rollout = std::get_if<StartRollout>(&command)) {
          Lie(*rollout);
        } else if (const auto* end = std::get_if<EndSequence>(&command)) {
          Send(SequenceState{.sequence_id = end->sequence_id,
                             .state = DraftSequenceState::kAbsent,
                             .blocks = {.total = 1000, .free = 1000}});
        }
      }
    }
  }

  void Lie(const StartRollout& rollout) {
    RolloutProgress progress{.sequence_id = rollout.sequence_id,
                             .round_id = rollout.round_id,
                             .num_accepted = rollout.roots[0].num_accepted,
                             .root_token = rollout.roots[0].token.value_or(0),
                             .last = true};
    const int count = static_cast<int>(random_() % 6) * (random_() % 16 == 0 ? 4 : 1);
    for (int i = 0; i < count; ++i) {
      const uint64_t beyond_the_table = random_() % 64 == 0 ? 100 : 0;
      progress.token_ids.push_back(static_cast<TokenId>(random_() % 64 + beyond_the_table));
    }
    switch (random_() % 24) {
      case 0:
        progress.sequence_id += 1 + random_() % 3;
        break;
      case 1:
        progress.round_id -= random_() % 3;
        break;
      case 2:
        progress.first_depth = static_cast<int32_t>(random_() % 5);
        break;
      case 3:
        progress.root_token ^= 1;
        break;
      case 4:
        progress.num_accepted += 1;
        break;
      default:
        break;
    }
    num_lies_.fetch_add(1);
    if (random_() % 8 != 0) Send(progress);
  }

  void Send(const WorkerReport& report) {
    pb::WorkerMessage message;
    message.set_scheduler_epoch(fence_.scheduler_epoch);
    message.set_incarnation(fence_.incarnation);
    wire::Write(report, message.add_reports());
    stream_->Write(message);
  }

  std::mt19937_64 random_;
  Fence fence_;
  std::atomic<int> num_lies_{0};
  grpc::ClientContext context_;
  const std::unique_ptr<pb::Fleet::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::SchedulerMessage>> stream_;
  std::thread thread_;
};

TEST(HostileWorkerTest, LyingDraftChangesNoToken) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  ASSERT_TRUE(cell.WaitForWorkers(1, 0));
  std::vector<std::shared_ptr<Generation>> expected;
  for (int i = 0; i < 8; ++i) expected.push_back(cell.Run(cell.Request({1, 2, 3 + i}, 60)));
  int num_lies = 0;
  int64_t num_verified = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    // A lie that cannot be an honest mistake may cost the liar its stream: then the next one comes.
    LyingDraft liar(cell.scheduler().InProcessChannel(), seed);
    std::vector<std::shared_ptr<Generation>> running;
    for (int i = 0; i < 8; ++i) {
      running.push_back(cell.Submit(cell.Request({1, 2, 3 + i}, 60, SpeculationMode::kSerial)));
    }
    for (int i = 0; i < 8; ++i) {
      running[i]->Wait();
      EXPECT_TRUE(running[i]->status.ok()) << running[i]->status;
      EXPECT_EQ(running[i]->tokens, expected[i]->tokens) << "seed " << seed << " request " << i;
      num_verified += running[i]->stats.drafted_tokens;
    }
    num_lies += liar.num_lies();
  }
  EXPECT_GT(num_lies, 12);
  EXPECT_GT(num_verified, 0) << "no lie was so good that it was tried";
}

class RawStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cell_.AddVerifier("v", Target());
    ASSERT_TRUE(cell_.WaitForWorkers(1, 0));
    expected_ = cell_.Run(cell_.Request({5, 6, 7}, 300))->tokens;
    stream_ = stub_->Attach(&context_);
    pb::WorkerMessage hello;
    wire::Write(ForeignDraftHello("raw"), hello.mutable_hello());
    ASSERT_TRUE(stream_->Write(hello));
    pb::SchedulerMessage welcome;
    ASSERT_TRUE(stream_->Read(&welcome));
    ASSERT_TRUE(welcome.has_welcome());
    fence_ = {welcome.welcome().scheduler_epoch(), welcome.welcome().incarnation()};
    running_ = cell_.Submit(cell_.Request({5, 6, 7}, 300));
    running_->WaitForTokens(3);
  }

  void TearDown() override {
    running_->Wait();
    EXPECT_TRUE(running_->status.ok()) << running_->status;
    EXPECT_EQ(running_->tokens, expected_);
    context_.TryCancel();
  }

  pb::WorkerMessage WithFence(const Fence& fence) {
    pb::WorkerMessage message;
    message.set_scheduler_epoch(fence.scheduler_epoch);
    message.set_incarnation(fence.incarnation);
    return message;
  }

  TestCell cell_;
  std::vector<TokenId> expected_;
  Fence fence_;
  std::shared_ptr<Generation> running_;
  grpc::ClientContext context_;
  std::unique_ptr<pb::Fleet::Stub> stub_ =
      pb::Fleet::NewStub(cell_.scheduler().InProcessChannel());
  std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::SchedulerMessage>> stream_;
};

TEST_F(RawStreamTest, AnothersFenceIsANoOp) {
  // The verifier attached before us: its incarnation is the one below ours.
  for (const Fence& fence : {Fence{fence_.scheduler_epoch, fence_.incarnation - 1},
                             Fence{fence_.scheduler_epoch - 1, fence_.incarnation},
                             Fence{0, 0}}) {
    for (uint64_t id = 1; id < 20; ++id) {
      pb::WorkerMessage message = WithFence(fence);
      wire::Write(WorkerReport(VerifyDone{
                      .round_id = id,
                      .items = {{.sequence_id = 2, .kv_length = 3, .correction_token = 9}}}),
                  message.add_reports());
      ASSERT_TRUE(stream_->Write(message));
    }
  }
  EXPECT_TRUE(cell_.WaitForWorkers(1, 1));  // dropped, not punished
}

TEST_F(RawStreamTest, WhatDoesNotValidateClosesItsStreamAlone) {
  pb::WorkerMessage message = WithFence(fence_);
  message.add_reports()->mutable_rollout_progress()->set_first_depth(-1);
  ASSERT_TRUE(stream_->Write(message));
  pb::SchedulerMessage incoming;
  while (stream_->Read(&incoming)) {
  }
  const absl::Status status = wire::FromGrpcStatus(stream_->Finish());
  EXPECT_EQ(GetErrorInfo(status)->field, "reports[0].rollout_progress.first_depth") << status;
  EXPECT_TRUE(cell_.WaitForWorkers(1, 0));
}

TEST_F(RawStreamTest, DraftThatReportsAsAVerifierIsClosedAlone) {
  pb::WorkerMessage message = WithFence(fence_);
  wire::Write(WorkerReport(VerifyDone{
                  .round_id = 1,
                  .items = {{.sequence_id = 2, .kv_length = 3, .correction_token = 9}}}),
              message.add_reports());
  ASSERT_TRUE(stream_->Write(message));
  EXPECT_TRUE(cell_.WaitForWorkers(1, 0));
}

}  // namespace
}  // namespace mirrorsd::testing
