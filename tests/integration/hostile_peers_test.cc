// Peers of the internal edges gone wrong, over sockets: workers that flood the scheduler with streams or reports,
// gateways that submit what cannot be, and a scheduler that sends its workers commands at random. Whoever plays by
// the rules beside them gets the model's own tokens.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mirrorsd/internal/v1/fleet.grpc.pb.h"
#include "mirrorsd/internal/v1/scheduling.grpc.pb.h"
#include "services/rpc/channel.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"
#include "tests/integration/cell.h"
#include "tests/integration/raw_http2.h"

namespace mirrorsd::testing {
namespace {

namespace pb = ::mirrorsd::internal::v1;

MicroModelOptions Target() { return {.max_positions = 1024, .seed = 7}; }

class RawWorker {
 public:
  explicit RawWorker(std::shared_ptr<grpc::Channel> channel)
      : stub_(pb::Fleet::NewStub(channel)), stream_(stub_->Attach(&context_)) {}
  ~RawWorker() { context_.TryCancel(); }

  bool SayHello(const std::string& name) {
    pb::WorkerMessage message;
    wire::Write(ForeignDraftHello(name), message.mutable_hello());
    return stream_->Write(message);
  }
  // Says Hello and waits for the Welcome.
  bool Attach(const std::string& name) {
    pb::SchedulerMessage welcome;
    if (!SayHello(name) || !stream_->Read(&welcome) || !welcome.has_welcome()) return false;
    epoch_ = welcome.welcome().scheduler_epoch();
    incarnation_ = welcome.welcome().incarnation();
    return true;
  }
  pb::WorkerMessage Message() const {
    pb::WorkerMessage message;
    message.set_scheduler_epoch(epoch_);
    message.set_incarnation(incarnation_);
    return message;
  }
  bool Write(const pb::WorkerMessage& message) { return stream_->Write(message); }
  absl::Status Finish() {
    pb::SchedulerMessage message;
    while (stream_->Read(&message)) {
    }
    return wire::FromGrpcStatus(stream_->Finish());
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<pb::Fleet::Stub> stub_;
  const std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::SchedulerMessage>> stream_;
  uint64_t epoch_ = 0;
  uint64_t incarnation_ = 0;
};

class HostilePeersTest : public ::testing::Test {
 protected:
  static scheduler::SchedulerServerOptions Options() {
    scheduler::SchedulerServerOptions options;
    options.listen_addresses = {"127.0.0.1:0"};
    options.attach.max_streams = 8;
    options.attach.max_waiting_reports = 20'000;
    options.attach.hello_timeout = absl::Milliseconds(300);
    options.submit.max_streams = 64;
    return options;
  }

  void SetUp() override {
    cell_.AddVerifier("v", Target(), Dial());
    ASSERT_TRUE(cell_.WaitForWorkers(1, 0));
    expected_ = cell_.Run(cell_.Request({5, 6, 7}, 300))->tokens;
    ASSERT_EQ(expected_.size(), 300u);
    running_ = cell_.Submit(cell_.Request({5, 6, 7}, 300));
    running_->WaitForTokens(3);
  }

  // What ran beside the attack, and what comes after it.
  void TearDown() override {
    running_->Wait();
    EXPECT_TRUE(running_->status.ok()) << running_->status;
    EXPECT_EQ(running_->tokens, expected_);
    EXPECT_EQ(cell_.Run(cell_.Request({5, 6, 7}, 300))->tokens, expected_);
    EXPECT_TRUE(Eventually([&] { return cell_.WaitForWorkers(1, 0); }));
    EXPECT_TRUE(cell_.WaitUntilIdle());
  }

  int port() { return cell_.scheduler().ports()[0]; }
  rpc::ChannelFactory Dial() { return rpc::DialTo(absl::StrCat("127.0.0.1:", port())); }

  TestCell cell_{Options()};
  std::vector<TokenId> expected_;
  std::shared_ptr<Generation> running_;
};

TEST_F(HostilePeersTest, FloodOfAttachStreams) {
  const auto channel = Dial()();
  std::vector<std::unique_ptr<RawWorker>> workers;
  for (int i = 0; i < 1000; ++i) workers.push_back(std::make_unique<RawWorker>(channel));
  // One place is the verifier's; those that got one say no Hello and lose it.
  int refused = 0, timed_out = 0;
  for (const auto& worker : workers) {
    const absl::Status status = worker->Finish();
    const auto info = GetErrorInfo(status);
    refused += info.has_value() && info->reason == "TOO_MANY_WORKERS" && info->retryable;
    timed_out += absl::IsDeadlineExceeded(status);
  }
  EXPECT_EQ(refused + timed_out, 1000);
  EXPECT_GE(refused, 900);
  EXPECT_GT(timed_out, 0);
}

TEST_F(HostilePeersTest, EndlessHeartbeats) {
  std::atomic<int> ended{0};
  std::vector<std::thread> floods;
  for (int i = 0; i < 3; ++i) {
    floods.emplace_back([&, i] {
      RawWorker worker(Dial()());
      ASSERT_TRUE(worker.Attach(absl::StrCat("flood", i)));
      pb::WorkerMessage message = worker.Message();
      const int size = i == 0 ? 1 : 15'000;  // many messages, or large ones
      for (int n = 0; n < size; ++n) message.add_reports()->mutable_heartbeat()->set_sent_at_ns(n);
      const absl::Time until = absl::Now() + absl::Seconds(2);
      while (absl::Now() < until && worker.Write(message)) {
      }
      if (absl::Now() >= until) return;  // all of it was heard
      ++ended;
      const auto info = GetErrorInfo(worker.Finish());
      ASSERT_TRUE(info.has_value());
      EXPECT_EQ(info->reason, "TOO_MANY_REPORTS");
    });
  }
  for (std::thread& flood : floods) flood.join();
  RecordProperty("floods_ended", ended.load());
}

TEST_F(HostilePeersTest, ReportsInAnyOrder) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 40; ++round) {
    std::unique_ptr<RawWorker> worker;  // the places of earlier ones become free in a moment
    ASSERT_TRUE(Eventually([&] {
      worker = std::make_unique<RawWorker>(Dial()());
      return worker->Attach("liar");
    }));
    for (int i = 0; i < 30; ++i) {
      pb::WorkerMessage message = worker->Message();
      if (random() % 8 == 0) message.set_scheduler_epoch(random());
      if (random() % 8 == 0) message.set_incarnation(random() % 8);
      const uint64_t id = random() % 12, round_id = random() % 400;
      switch (random() % 7) {
        case 0: wire::Write(WorkerReport(Heartbeat{.num_rounds_done = 1}), message.add_reports()); break;
        case 1: wire::Write(WorkerReport(SequenceEnded{.sequence_id = id}), message.add_reports()); break;
        case 2: wire::Write(WorkerReport(SequenceStarted{id, 1}), message.add_reports()); break;
        case 3:
          wire::Write(WorkerReport(VerifyDone{.round_id = round_id,
                                              .items = {{.sequence_id = id, .kv_length = 2}}}),
                      message.add_reports());
          break;
        case 4:
          wire::Write(WorkerReport(RolloutProgress{.sequence_id = id, .round_id = round_id,
                                                   .token_ids = {63, 200}}),
                      message.add_reports());
          break;
        case 5:
          wire::Write(WorkerReport(SequenceState{.sequence_id = id,
                                                 .state = DraftSequenceState::kReady}),
                      message.add_reports());
          break;
        default: wire::Write(WorkerReport(Drain{}), message.add_reports());
      }
      if (!worker->Write(message)) break;
    }
  }
}

TEST_F(HostilePeersTest, SubmitsThatCannotBe) {
  const auto stub = pb::Scheduling::NewStub(Dial()());
  const auto end = [&](const pb::SubmitRequest& request) {
    grpc::ClientContext context;
    const auto reader = stub->Submit(&context, request);
    pb::Committed committed;
    while (reader->Read(&committed)) {
    }
    return wire::FromGrpcStatus(reader->Finish());
  };
  pb::SubmitRequest good;
  wire::Write(cell_.Request({1, 2, 3}, 2), &good);
  EXPECT_TRUE(end(good).ok());
  pb::SubmitRequest bad = good;
  bad.set_schema_revision(99);
  EXPECT_EQ(GetErrorInfo(end(bad))->field, "schema_revision");
  bad = good;
  bad.mutable_token_ids()->Set(1, 1 << 30);  // validates on the wire; the target has no such token
  EXPECT_EQ(end(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = good;
  for (int i = 0; i < 2000; ++i) bad.add_token_ids(1);
  EXPECT_EQ(end(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.mutable_token_ids()->Resize(4 << 20, 1 << 30);  // beyond the largest message
  EXPECT_EQ(end(bad).code(), absl::StatusCode::kResourceExhausted);
}

// ---- a scheduler gone wrong -------------------------------------------------------------------------------

// Welcomes every worker and then sends it commands at random: unknown sequences and rounds, offsets beyond, windows
// and paths too long, tokens out of range, ids used again, and bytes that do not validate.
class WildScheduler final : public pb::Fleet::Service {
 public:
  grpc::Status Attach(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<pb::SchedulerMessage, pb::WorkerMessage>* stream) override {
    pb::WorkerMessage hello;
    if (!stream->Read(&hello)) return grpc::Status::OK;
    const uint64_t life = num_attached_.fetch_add(1);
    pb::SchedulerMessage message;
    message.set_scheduler_epoch(7);
    message.set_incarnation(life);
    message.mutable_welcome()->set_scheduler_epoch(7);
    message.mutable_welcome()->set_incarnation(life);
    stream->Write(message);
    std::thread hears([&] {
      pb::WorkerMessage report;
      while (stream->Read(&report)) num_heard_.fetch_add(report.reports_size());
    });
    std::mt19937_64 random(life);
    for (int i = 0; i < 200; ++i) {
      message.Clear();
      message.set_scheduler_epoch(random() % 16 == 0 ? random() : 7);
      message.set_incarnation(life);
      for (uint64_t n = random() % 8; n > 0; --n) AddCommand(&random, &message);
      if (random() % 100 == 0) message.mutable_welcome();  // a second time
      if (random() % 100 == 0) message.add_commands();     // no payload
      if (!stream->Write(message)) break;
    }
    context->TryCancel();
    hears.join();
    return grpc::Status::OK;
  }

  uint64_t num_attached() const { return num_attached_.load(); }
  int64_t num_heard() const { return num_heard_.load(); }

 private:
  static int32_t Length(std::mt19937_64* random) {
    constexpr int32_t kLengths[] = {0, 1, 5, 6, 7, 40, 1023, 1024, 1025, 1 << 24};
    return kLengths[(*random)() % std::size(kLengths)];
  }
  static std::vector<TokenId> Tokens(std::mt19937_64* random, uint64_t count) {
    std::vector<TokenId> ids(count);
    for (TokenId& id : ids) {
      id = static_cast<TokenId>((*random)() % ((*random)() % 200 == 0 ? 1 << 30 : 64));
    }
    return ids;
  }
  static void AddCommand(std::mt19937_64* random, pb::SchedulerMessage* message) {
    const uint64_t id = 1 + (*random)() % 4, round = (*random)() % 50;
    const int32_t length = (*random)() % 2 == 0 ? 6 : Length(random);
    WorkerCommand command;
    switch ((*random)() % 8) {
      case 0:
      case 1:
        command = StartSequence{.sequence_id = id, .prompt_length = std::max(1, std::min(length, 3)),
                                .total_length = std::max(length, 3)};
        break;
      case 2:
      case 3:
        command = AppendTokens{id, (*random)() % 2 == 0 ? 0 : Length(random),
                               Tokens(random, (*random)() % 2 == 0 ? 6 : 1 + (*random)() % 4000)};
        break;
      case 4:
      case 5: {
        StartVerify verify{.round_id = round};
        for (uint64_t i = 1 + (*random)() % 40; i > 0; --i) {
          VerifyItem item{.sequence_id = 1 + (*random)() % 6, .committed_length = std::max(length, 1)};
          item.is_prefill = (*random)() % 2 == 0;
          item.end = item.committed_length;
          if (!item.is_prefill) item.window = Tokens(random, (*random)() % 65);
          verify.items.push_back(std::move(item));
        }
        command = std::move(verify);
        break;
      }
      case 6: {
        const int32_t path = std::min(length, 64);
        command = StartRollout{.sequence_id = id, .round_id = round, .committed_length = path + 1,
                               .path_offset = 1, .path_tokens = Tokens(random, path),
                               .window = Tokens(random, 3),
                               .roots = {{.num_accepted = 1, .token = 5}},
                               .depth = static_cast<int32_t>(1 + (*random)() % 64)};
        break;
      }
      default:
        if ((*random)() % 4 == 0) command = Drain{}; else command = EndSequence{id};
    }
    wire::Write(command, message->add_commands());
    if ((*random)() % 300 == 0) {
      auto* out = message->mutable_commands(message->commands_size() - 1);
      if (out->has_append_tokens()) out->mutable_append_tokens()->set_offset(-1);
      if (out->has_start_verify()) out->mutable_start_verify()->clear_items();
    }
  }

  std::atomic<uint64_t> num_attached_{1};
  std::atomic<int64_t> num_heard_{0};
};

TEST(WildSchedulerTest, WorkersSurviveItAndServeAnother) {
  TestCell cell;
  WildScheduler wild;
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder);
  int wild_port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &wild_port);
  builder.RegisterService(&wild);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();

  std::atomic<bool> tamed{false};
  const rpc::ChannelFactory dial = [&] {
    return tamed.load() ? cell.scheduler().InProcessChannel()
                        : rpc::DialChannel(absl::StrCat("127.0.0.1:", wild_port));
  };
  cell.AddVerifier("v", Target(), dial, /*num_kv_blocks=*/64);
  cell.AddDraft("d", Target(), dial);
  EXPECT_TRUE(Eventually([&] { return wild.num_attached() > 12; }));
  EXPECT_GT(wild.num_heard(), 100) << "the commands were hardly obeyed";
  tamed = true;
  server->Shutdown(std::chrono::system_clock::now());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));

  TestCell other;
  other.AddVerifier("v", Target());
  ASSERT_TRUE(other.WaitForWorkers(1, 0));
  const auto expected = other.Run(other.Request({5, 6, 7}, 100));
  const auto after = cell.Run(cell.Request({5, 6, 7}, 100, SpeculationMode::kSerial));
  EXPECT_TRUE(after->status.ok()) << after->status;
  EXPECT_EQ(after->tokens, expected->tokens);
  EXPECT_TRUE(cell.WaitUntilIdle());
}

}  // namespace
}  // namespace mirrorsd::testing
