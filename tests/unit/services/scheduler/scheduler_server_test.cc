// The scheduler process around the core: addresses, standard health, describing, stopping. Workers here
// only attach; what they compute is tested elsewhere.

#include "services/scheduler/scheduler_server.h"

#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "services/rpc/submit_client.h"
#include "tests/unit/services/rpc/attach_fixture.h"

namespace mirrorsd::scheduler {
namespace {

using rpc::AttachClient;
using rpc::RecordingListener;
using rpc::TestClientOptions;

Hello VerifierHello(const std::string& name) {
  Hello hello = rpc::TestHello(name);
  hello.model_name = "model-of-" + name;
  hello.vocabulary_fingerprint = "v";
  hello.model_fingerprint = "m";
  hello.numerics_id = "n";
  return hello;
}

// grpc.health.v1.Health/Check without its schema: the answer's one field is the status.
enum class Serving { kUnknown = 0, kServing = 1, kNotServing = 2 };
Serving CheckHealth(std::shared_ptr<grpc::Channel> channel, const std::string& service) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  std::string bytes;  // HealthCheckRequest{service}
  if (!service.empty()) {
    bytes = absl::StrCat("\n", std::string(1, static_cast<char>(service.size())), service);
  }
  const grpc::Slice slice(bytes);
  grpc::ByteBuffer request(&slice, 1), response;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  grpc::Status result;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&](grpc::Status status) {
                   std::lock_guard<std::mutex> lock(mutex);
                   result = status;
                   done = true;
                   changed.notify_all();
                 });
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return done; });
  grpc::Slice answer;
  if (!result.ok() || !response.DumpToSingleSlice(&answer).ok() || answer.size() != 2) {
    return Serving::kUnknown;
  }
  return static_cast<Serving>(answer.begin()[1]);
}

bool Eventually(const std::function<bool()>& good) {
  for (int i = 0; i < 4000; ++i) {
    if (good()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

std::unique_ptr<SchedulerServer> StartServer(SchedulerServerOptions options = {}) {
  auto server = SchedulerServer::Start(std::move(options));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(SchedulerServerTest, HealthFollowsTheVerifierAndTheDrain) {
  const auto server = StartServer();
  const auto channel = server->InProcessChannel();
  constexpr char kFleet[] = "mirrorsd.internal.v1.Fleet";
  constexpr char kScheduling[] = "mirrorsd.internal.v1.Scheduling";
  EXPECT_EQ(CheckHealth(channel, ""), Serving::kNotServing);
  EXPECT_EQ(CheckHealth(channel, kScheduling), Serving::kNotServing);
  EXPECT_EQ(CheckHealth(channel, kFleet), Serving::kServing);
  EXPECT_EQ(server->Describe(absl::Seconds(5))->not_ready_reason, "no verifier is attached");

  RecordingListener listener;
  auto options = TestClientOptions([&] { return server->InProcessChannel(); });
  options.heartbeat_interval = absl::Milliseconds(50);
  options.heartbeat = [] { return Heartbeat{.sent_at_ns = 1, .blocks = {.total = 4, .free = 3}}; };
  AttachClient verifier(&listener, std::move(options));
  verifier.Dial(VerifierHello("a"));
  EXPECT_TRUE(Eventually([&] { return server->ready(); }));
  EXPECT_TRUE(Eventually([&] { return CheckHealth(channel, kScheduling) == Serving::kServing; }));
  EXPECT_EQ(CheckHealth(channel, ""), Serving::kServing);
  // Blocks are told by heartbeats.
  EXPECT_TRUE(Eventually(
      [&] { return server->Describe(absl::Seconds(5))->workers.at(0).blocks.free == 3; }));
  const CellDescription cell = *server->Describe(absl::Seconds(5));
  EXPECT_TRUE(cell.ready);
  EXPECT_EQ(cell.model_name, "model-of-a");
  EXPECT_EQ(cell.context_length, 16);
  EXPECT_EQ(cell.workers.at(0).state, "ready");
  EXPECT_NE(cell.scheduler_epoch, 0u);

  server->Drain();
  EXPECT_TRUE(
      Eventually([&] { return CheckHealth(channel, kScheduling) == Serving::kNotServing; }));
  EXPECT_EQ(server->Describe(absl::Seconds(5))->not_ready_reason, "draining");
  EXPECT_TRUE(server->WaitUntilDrained(absl::Seconds(20)));
  EXPECT_EQ(CheckHealth(channel, kFleet), Serving::kServing);
}

TEST(SchedulerServerTest, ListensWhereItIsToldAndSaysWhereItCannot) {
  const std::string socket = absl::StrCat("unix:/tmp/mirrorsd-scheduler-test-", getpid());
  const auto server = StartServer({.listen_addresses = {"127.0.0.1:0", socket}});
  ASSERT_EQ(server->ports().size(), 2u);
  EXPECT_GT(server->ports()[0], 0);
  EXPECT_EQ(server->ports()[1], 0);
  const std::string address = absl::StrCat("127.0.0.1:", server->ports()[0]);
  for (const std::string& target : {address, socket}) {
    rpc::SubmitClient client(rpc::DialChannel(target));
    EXPECT_TRUE(client.DescribeCell(absl::Seconds(10)).ok()) << target;
  }
  const auto second =
      SchedulerServer::Start({.listen_addresses = {"127.0.0.1:0", address}});  // taken
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(GetErrorInfo(second.status())->reason, "INVALID_FIELD");
}

TEST(SchedulerServerTest, EveryLifeHasAnEpochOfItsOwn) {
  const uint64_t first = StartServer()->Describe(absl::Seconds(5))->scheduler_epoch;
  const uint64_t second = StartServer()->Describe(absl::Seconds(5))->scheduler_epoch;
  EXPECT_NE(first, second);
}

TEST(SchedulerServerTest, WorkersAttachAgainAfterARestart) {
  auto server = StartServer({.listen_addresses = {"127.0.0.1:0"}});
  const std::string address = absl::StrCat("127.0.0.1:", server->ports()[0]);
  RecordingListener listener;
  AttachClient worker(&listener, TestClientOptions(rpc::DialTo(address)));
  listener.on_detached = [&] { worker.Dial(VerifierHello("a")); };
  worker.Dial(VerifierHello("a"));
  ASSERT_TRUE(listener.WaitFor([&] { return listener.welcomes.size() == 1; }));
  server.reset();
  server = StartServer({.listen_addresses = {address}});
  ASSERT_TRUE(listener.WaitFor([&] { return listener.welcomes.size() == 2; }));
  EXPECT_NE(listener.welcomes[0].scheduler_epoch, listener.welcomes[1].scheduler_epoch);
  worker.Stop();
}

TEST(SchedulerServerTest, StopEndsStreamsRetryably) {
  auto server = StartServer();
  RecordingListener listener;
  AttachClient worker(&listener, TestClientOptions([&] { return server->InProcessChannel(); }));
  worker.Dial(VerifierHello("a"));
  ASSERT_TRUE(listener.WaitFor([&] { return listener.welcomes.size() == 1; }));
  server->Stop();
  server->Stop();
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
  EXPECT_TRUE(GetErrorInfo(listener.detached[0])->retryable);
  EXPECT_FALSE(server->Describe(absl::Seconds(1)).ok());
}

class CountingObserver : public SchedulerObserver, public rpc::Watched {
 public:
  void OnReport(const SchedulerReport& report) override {
    Update([&] {
      ++num_reports;
      attached = report.counters.workers_attached[0];
      ready = report.health.ready();
    });
  }
  int num_reports = 0;
  int64_t attached = 0;
  bool ready = false;
};

TEST(SchedulerServerTest, ObserverIsToldOfChangesSoonAndNotTooOften) {
  CountingObserver observer;
  const auto server =
      StartServer({.report_interval = absl::Milliseconds(20), .observer = &observer});
  RecordingListener listener;
  AttachClient worker(&listener, TestClientOptions([&] { return server->InProcessChannel(); }));
  worker.Dial(VerifierHello("a"));
  EXPECT_TRUE(observer.WaitFor([&] { return observer.attached == 1 && observer.ready; }));
  const int before = observer.Get([&] { return observer.num_reports; });
  for (int i = 0; i < 200; ++i) server->Describe(absl::Seconds(5)).IgnoreError();
  EXPECT_LT(observer.Get([&] { return observer.num_reports; }) - before, 150);
}

}  // namespace
}  // namespace mirrorsd::scheduler
