#include "services/rpc/worker_host.h"

#include <chrono>
#include <thread>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/unit/services/rpc/attach_fixture.h"

namespace mirrorsd::rpc {
namespace {

// A session that writes down its calls; each EndSequence makes one unit of work.
struct FakeSession : Watched {
  HostedSession Hosted() {
    return {.make_hello =
                [this] {
                  Update([&] { calls.push_back("hello"); });
                  return TestHello("w");
                },
            .reset =
                [this] {
                  Update([&] {
                    calls.push_back("reset");
                    work = 0;
                  });
                },
            .handle =
                [this](WorkerCommand command) {
                  if (std::holds_alternative<EndSequence>(command)) ++work;
                },
            .has_work = [this] { return work > 0; },
            .work =
                [this](const std::function<void(WorkerReport)>& emit) {
                  std::this_thread::sleep_for(work_time);
                  --work;
                  emit(SequenceEnded{.sequence_id = 1});
                },
            .num_sequences = [this] { return num_sequences.load(); },
            .heartbeat = [] { return Heartbeat{.sent_at_ns = 1}; }};
  }

  std::vector<std::string> calls;
  int work = 0;
  std::chrono::milliseconds work_time{0};
  std::atomic<int64_t> num_sequences{0};
};

class WorkerHostTest : public ::testing::Test {
 protected:
  ConnectionId Welcome(size_t nth, uint64_t incarnation) {
    EXPECT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() >= nth; }));
    const ConnectionId connection = handler_.Get([&] { return handler_.hellos[nth - 1].first; });
    server_.Greet(connection, {1, incarnation});
    return connection;
  }

  RecordingHandler handler_;
  AttachServer server_{&handler_, {}};
  Loopback loopback_{server_.service()};
  FakeSession session_;
};

TEST_F(WorkerHostTest, EveryAttachmentStartsWithAnEmptySession) {
  WorkerHost host(session_.Hosted(), TestClientOptions(loopback_.Factory()));
  host.Start();
  const ConnectionId first = Welcome(1, 1);
  server_.Close(first, Unavailable("X", "away"));
  Welcome(2, 2);
  host.Stop();
  const std::vector<std::string> begin(session_.calls.begin(), session_.calls.begin() + 4);
  EXPECT_EQ(begin, (std::vector<std::string>{"reset", "hello", "reset", "hello"}));
}

TEST_F(WorkerHostTest, WorksOffWhatItWasSentAndReports) {
  WorkerHost host(session_.Hosted(), TestClientOptions(loopback_.Factory()));
  host.Start();
  const ConnectionId connection = Welcome(1, 1);
  for (int i = 0; i < 10; ++i) server_.Send(connection, {1, 1}, EndSequence{1});
  server_.Flush(connection);
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.reports[connection].size() == 10; }));
  EXPECT_TRUE(host.is_attached());
  EXPECT_EQ(host.num_attachments(), 1u);
}

TEST_F(WorkerHostTest, HeartbeatsGoOnDuringALongComputation) {
  session_.work_time = std::chrono::milliseconds(500);
  AttachClientOptions options = TestClientOptions(DialTo(loopback_.address()));
  options.heartbeat_interval = absl::Milliseconds(20);
  WorkerHost host(session_.Hosted(), std::move(options));
  host.Start();
  const ConnectionId connection = Welcome(1, 1);
  server_.Send(connection, {1, 1}, EndSequence{1});
  server_.Flush(connection);
  ASSERT_TRUE(handler_.WaitFor([&] {
    return !handler_.reports[connection].empty() &&
           std::holds_alternative<SequenceEnded>(handler_.reports[connection].back());
  }));
  EXPECT_GE(handler_.Get([&] { return handler_.num_heartbeats; }), 5);
}

TEST_F(WorkerHostTest, DrainTellsTheSchedulerAndWaitsForLiveSequences) {
  session_.num_sequences = 1;
  WorkerHost host(session_.Hosted(), TestClientOptions(loopback_.Factory()));
  host.Start();
  const ConnectionId connection = Welcome(1, 1);
  host.Drain();
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.reports[connection].size() == 1; }));
  EXPECT_TRUE(std::holds_alternative<Drain>(handler_.reports[connection][0]));
  EXPECT_FALSE(host.WaitUntilOver(absl::Milliseconds(50)).has_value());
  session_.num_sequences = 0;
  server_.Send(connection, {1, 1}, EndSequence{1});  // the last one ends
  server_.Flush(connection);
  const auto over = host.WaitUntilOver(absl::Seconds(20));
  ASSERT_TRUE(over.has_value());
  EXPECT_TRUE(over->ok()) << *over;
}

TEST_F(WorkerHostTest, RefusalForGoodEndsIt) {
  WorkerHost host(session_.Hosted(), TestClientOptions(loopback_.Factory()));
  host.Start();
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 1; }));
  server_.Refuse(handler_.hellos[0].first, {"SCHEMA_MISMATCH", "too old", false});
  const auto over = host.WaitUntilOver(absl::Seconds(20));
  ASSERT_TRUE(over.has_value());
  EXPECT_EQ(GetErrorInfo(*over)->reason, "SCHEMA_MISMATCH");
  EXPECT_EQ(handler_.Get([&] { return handler_.hellos.size(); }), 1u);  // it does not dial again
}

TEST_F(WorkerHostTest, RetryableRefusalIsDialledAgain) {
  WorkerHost host(session_.Hosted(), TestClientOptions(loopback_.Factory()));
  host.Start();
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 1; }));
  server_.Refuse(handler_.hellos[0].first, {"TOO_EARLY", "later", true});
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 2; }));
  EXPECT_FALSE(host.WaitUntilOver(absl::ZeroDuration()).has_value());
}

TEST_F(WorkerHostTest, StoppedBeforeAnythingIsCancelled) {
  WorkerHost host(session_.Hosted(), TestClientOptions(DialTo("127.0.0.1:1")));
  host.Start();
  host.Stop();
  EXPECT_EQ(host.WaitUntilOver(absl::ZeroDuration())->code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace mirrorsd::rpc
