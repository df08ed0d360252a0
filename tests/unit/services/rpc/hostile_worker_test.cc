// Workers that do not play by the rules, over a raw stub: each loses its own stream, with the reason, and a
// well-behaved neighbour notices nothing.

#include <string>
#include <vector>

#include "common/error.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "mirrorsd/internal/v1/fleet.grpc.pb.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/status_wire.h"
#include "tests/unit/services/rpc/attach_fixture.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;

AttachServerOptions SmallOptions() {
  return {.max_streams = 3,
          .max_pending_commands = 100,
          .max_waiting_reports = 1000,
          .hello_timeout = absl::Milliseconds(100),
          .end_grace = absl::Milliseconds(100)};
}

// A worker whose every message the test writes itself.
class RawWorker {
 public:
  explicit RawWorker(std::shared_ptr<grpc::Channel> channel)
      : stub_(pb::Fleet::NewStub(channel)), stream_(stub_->Attach(&context_)) {}
  ~RawWorker() { context_.TryCancel(); }

  bool Write(const pb::WorkerMessage& message) { return stream_->Write(message); }
  bool SayHello() {
    pb::WorkerMessage message;
    wire::Write(TestHello("raw"), message.mutable_hello());
    return Write(message);
  }
  bool Read(pb::SchedulerMessage* message) { return stream_->Read(message); }
  absl::Status Finish() { return wire::FromGrpcStatus(stream_->Finish()); }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<pb::Fleet::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::SchedulerMessage>> stream_;
};

class HostileWorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    good_client_.Dial(TestHello("good"));
    ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 1; }));
    good_ = handler_.hellos[0].first;
    server_.Greet(good_, {1, 1});
    ASSERT_TRUE(listener_.WaitFor([&] { return listener_.welcomes.size() == 1; }));
  }

  // The neighbour's stream still carries messages either way.
  void TearDown() override {
    const size_t before = handler_.Get([&] { return handler_.reports[good_].size(); });
    good_client_.Send({1, 1}, {Drain{}});
    EXPECT_TRUE(handler_.WaitFor([&] { return handler_.reports[good_].size() == before + 1; }));
    server_.Send(good_, {1, 1}, Drain{});
    server_.Flush(good_);
    EXPECT_TRUE(listener_.WaitFor([&] { return listener_.commands.size() == 1; }));
    EXPECT_TRUE(handler_.Get([&] { return handler_.detached[good_].empty(); }));
  }

  ConnectionId AttachRaw(RawWorker* worker) {
    EXPECT_TRUE(worker->SayHello());
    EXPECT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() >= 2; }));
    const ConnectionId connection = handler_.Get([&] { return handler_.hellos.back().first; });
    server_.Greet(connection, {1, 2});
    pb::SchedulerMessage welcome;
    EXPECT_TRUE(worker->Read(&welcome));
    EXPECT_TRUE(welcome.has_welcome());
    return connection;
  }

  void ExpectRefusal(RawWorker* worker, absl::StatusCode code, const std::string& field) {
    pb::SchedulerMessage message;
    EXPECT_FALSE(worker->Read(&message));
    const absl::Status status = worker->Finish();
    EXPECT_EQ(status.code(), code) << status;
    const auto info = GetErrorInfo(status);
    ASSERT_TRUE(info.has_value()) << status;
    EXPECT_EQ(info->field, field);
  }

  RecordingHandler handler_;
  AttachServer server_{&handler_, SmallOptions()};
  Loopback loopback_{server_.service()};
  RecordingListener listener_;
  AttachClient good_client_{&listener_, TestClientOptions(loopback_.Factory())};
  ConnectionId good_ = 0;
};

TEST_F(HostileWorkerTest, ReportsBeforeHello) {
  RawWorker worker(loopback_.InProcess());
  pb::WorkerMessage message;
  message.add_reports()->mutable_drain();
  worker.Write(message);
  ExpectRefusal(&worker, absl::StatusCode::kInvalidArgument, "hello");
  EXPECT_EQ(handler_.Get([&] { return handler_.hellos.size(); }), 1u);
}

TEST_F(HostileWorkerTest, SecondHello) {
  RawWorker worker(loopback_.InProcess());
  const ConnectionId connection = AttachRaw(&worker);
  worker.SayHello();
  ExpectRefusal(&worker, absl::StatusCode::kInvalidArgument, "hello");
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached[connection].size() == 1; }));
}

TEST_F(HostileWorkerTest, HelloThatCannotBe) {
  RawWorker worker(loopback_.InProcess());
  pb::WorkerMessage message;
  wire::Write(TestHello("raw"), message.mutable_hello());
  message.mutable_hello()->set_context_length(-1);
  worker.Write(message);
  ExpectRefusal(&worker, absl::StatusCode::kInvalidArgument, "hello.context_length");
}

TEST_F(HostileWorkerTest, ReportThatDoesNotValidate) {
  RawWorker worker(loopback_.InProcess());
  const ConnectionId connection = AttachRaw(&worker);
  pb::WorkerMessage message;
  auto* done = message.add_reports()->mutable_verify_done();
  done->add_items()->set_num_accepted(-3);
  worker.Write(message);
  ExpectRefusal(&worker, absl::StatusCode::kInvalidArgument,
                "reports[0].verify_done.items[0].num_accepted");
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached[connection].size() == 1; }));
  EXPECT_TRUE(handler_.Get([&] { return handler_.reports[connection].empty(); }));
}

TEST_F(HostileWorkerTest, BytesThatAreNoMessage) {
  class Reactor : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                  public Watched {
   public:
    void OnDone(const grpc::Status& status) override {
      Update([&] { done = true; });
    }
    bool done = false;
  } reactor;
  grpc::ClientContext context;
  grpc::GenericStub stub(loopback_.InProcess());
  stub.PrepareBidiStreamingCall(&context, "/mirrorsd.internal.v1.Fleet/Attach", {}, &reactor);
  const grpc::Slice slice("\xff\xff\xff\xff\xff\xff");
  grpc::ByteBuffer garbage(&slice, 1), answer;
  reactor.StartWrite(&garbage);
  reactor.StartRead(&answer);
  reactor.StartCall();
  EXPECT_TRUE(reactor.WaitFor([&] { return reactor.done; }));
}

TEST_F(HostileWorkerTest, NoHelloInTime) {
  RawWorker worker(loopback_.InProcess());
  pb::SchedulerMessage message;
  EXPECT_FALSE(worker.Read(&message));
  EXPECT_EQ(worker.Finish().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(HostileWorkerTest, OneThatDoesNotReadFillsItsOwnQueueOnly) {
  RawWorker worker(loopback_.InProcess());
  const ConnectionId connection = AttachRaw(&worker);
  int sent = 0;
  while (sent < 10'000 && server_.Send(connection, {1, 2}, EndSequence{1})) {
    ++sent;
    server_.Flush(connection);
  }
  EXPECT_GE(sent, 100);
  EXPECT_LT(sent, 10'000);
  // Even so it can be closed: what it does not take is cut off.
  server_.Close(connection, Unavailable("CLOSED_BY_SCHEDULER", "late"));
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached[connection].size() == 1; }));
  EXPECT_EQ(handler_.Get([&] { return handler_.detached[connection][0]; }), "late");
}

// Reports wait until they are dealt with; who sends more than the limit meanwhile loses the stream, alone.
TEST_F(HostileWorkerTest, ReportsFasterThanTheyAreHeard) {
  handler_.Update([&] { handler_.keeps_receipts = true; });
  RawWorker worker(loopback_.InProcess());
  const ConnectionId connection = AttachRaw(&worker);
  pb::WorkerMessage message;
  for (int i = 0; i < 36; ++i) message.add_reports()->mutable_drain();  // 100 with the message itself
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(worker.Write(message));
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.reports[connection].size() == 360; }));
  handler_.Update([&] { handler_.receipts.pop_back(); });  // one is dealt with: one more has room
  ASSERT_TRUE(worker.Write(message));
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.reports[connection].size() == 396; }));
  EXPECT_TRUE(handler_.Get([&] { return handler_.detached[connection].empty(); }));
  worker.Write(message);
  pb::SchedulerMessage answer;
  EXPECT_FALSE(worker.Read(&answer));
  const absl::Status status = worker.Finish();
  EXPECT_EQ(GetErrorInfo(status)->reason, "TOO_MANY_REPORTS") << status;
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached[connection].size() == 1; }));
  handler_.Update([&] {
    handler_.keeps_receipts = false;
    handler_.receipts.clear();  // after the stream: nobody minds
  });
}

TEST_F(HostileWorkerTest, TooManyStreams) {
  RawWorker second(loopback_.InProcess()), third(loopback_.InProcess());
  EXPECT_TRUE(second.SayHello());
  EXPECT_TRUE(third.SayHello());
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 3; }));
  RawWorker fourth(loopback_.InProcess());
  pb::SchedulerMessage message;
  EXPECT_FALSE(fourth.Read(&message));
  const absl::Status status = fourth.Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetErrorInfo(status)->retryable);
}

TEST_F(HostileWorkerTest, SchedulerWithoutRoom) {
  handler_.Update([&] { handler_.takes_hellos = false; });
  RawWorker worker(loopback_.InProcess());
  worker.SayHello();
  pb::SchedulerMessage message;
  EXPECT_FALSE(worker.Read(&message));
  EXPECT_EQ(GetErrorInfo(worker.Finish())->reason, "SCHEDULER_OVERLOADED");
  // Not taken, so not told of either.
  EXPECT_EQ(handler_.Get([&] { return handler_.detached.count(handler_.hellos.back().first); }),
            0u);
}

}  // namespace
}  // namespace mirrorsd::rpc
