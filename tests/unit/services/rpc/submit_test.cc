// Both ends of a Submit stream against each other, with a scripted scheduler.

#include <map>
#include <string>
#include <vector>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "mirrorsd/internal/v1/scheduling.grpc.pb.h"
#include "services/rpc/submit_client.h"
#include "services/rpc/submit_server.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"
#include "tests/unit/services/rpc/loopback.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using ::testing::ElementsAre;

class ScriptedScheduler : public SubmitHandler, public Watched {
 public:
  bool OnSubmit(ConnectionId stream, SubmitRequest request) override {
    Update([&] { submitted.emplace_back(stream, std::move(request)); });
    return takes;
  }
  void OnCancelled(ConnectionId stream) override {
    Update([&] { ++cancelled[stream]; });
  }
  bool OnDescribe(std::function<void(const CellDescription*)> reply) override {
    if (!takes) return false;
    CellDescription cell{.scheduler_epoch = 9, .ready = true, .model_name = "m"};
    reply(answers ? &cell : nullptr);
    return true;
  }

  bool takes = true;
  bool answers = true;
  std::vector<std::pair<ConnectionId, SubmitRequest>> submitted;
  std::map<ConnectionId, int> cancelled;
};

struct Received : Watched {
  SubmitCallbacks Callbacks() {
    return {.on_committed =
                [this](Committed committed) {
                  Update([&] {
                    token_ids.insert(token_ids.end(), committed.token_ids.begin(),
                                     committed.token_ids.end());
                    finish = committed.finish;
                    stats = committed.stats;
                    ++num_messages;
                  });
                },
            .on_done = [this](absl::Status end) { Update([&] { ends.push_back(end); }); }};
  }
  bool WaitForEnd() {
    return WaitFor([&] { return !ends.empty(); });
  }

  std::vector<TokenId> token_ids;
  FinishReason finish = FinishReason::kNone;
  SpeculationStats stats;
  int num_messages = 0;
  std::vector<absl::Status> ends;
};

SubmitRequest TestRequest() {
  return {.request_id = "r",
          .vocabulary_fingerprint = "v",
          .token_ids = {1, 2},
          .max_tokens = 5};
}

Committed Tokens(int index, int count, FinishReason finish = FinishReason::kNone) {
  Committed committed{.output_index = index, .finish = finish};
  for (int i = 0; i < count; ++i) {
    committed.token_ids.push_back(index + i);
    committed.origins.push_back(TokenOrigin::kBonus);
  }
  committed.stats.rounds = index;
  return committed;
}

class SubmitTest : public ::testing::Test {
 protected:
  ConnectionId Submit(Received* received, std::shared_ptr<SubmitClient::Call>* call = nullptr) {
    const size_t before = handler_.Get([&] { return handler_.submitted.size(); });
    auto made = client_.Submit(TestRequest(), received->Callbacks());
    if (call != nullptr) *call = made;
    EXPECT_TRUE(handler_.WaitFor([&] { return handler_.submitted.size() > before; }));
    return handler_.Get([&] { return handler_.submitted.back().first; });
  }

  ScriptedScheduler handler_;
  SubmitServer server_{&handler_,
                       {.max_pending_tokens = 100, .slow_client_grace = absl::Milliseconds(200)}};
  Loopback loopback_{server_.service()};
  SubmitClient client_{loopback_.InProcess()};
};

TEST_F(SubmitTest, TokensComeInOrderAndTheEndIsOk) {
  Received received;
  const ConnectionId stream = Submit(&received);
  EXPECT_EQ(handler_.submitted[0].second.token_ids, (std::vector<TokenId>{1, 2}));
  std::vector<TokenId> expected;
  for (int i = 0; i < 50; ++i) {
    server_.Send(stream, Tokens(i, 1, i == 49 ? FinishReason::kLength : FinishReason::kNone));
    expected.push_back(i);
  }
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_TRUE(received.ends[0].ok()) << received.ends[0];
  EXPECT_EQ(received.token_ids, expected);
  EXPECT_EQ(received.finish, FinishReason::kLength);
  EXPECT_EQ(received.stats.rounds, 49);
  EXPECT_EQ(received.ends.size(), 1u);
  EXPECT_TRUE(handler_.cancelled.empty());
  server_.Send(stream, Tokens(50, 1));  // gone: a no-op
}

TEST_F(SubmitTest, FailureCarriesItsReasonBehindTheTokens) {
  Received received;
  const ConnectionId stream = Submit(&received);
  server_.Send(stream, Tokens(0, 3));
  server_.Fail(stream, Unavailable("VERIFIER_LOST", "no verifier came back"));
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_THAT(received.token_ids, ElementsAre(0, 1, 2));
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kUnavailable);
  const auto info = GetErrorInfo(received.ends[0]);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "VERIFIER_LOST");
  EXPECT_TRUE(info->retryable);
  EXPECT_TRUE(handler_.cancelled.empty());
}

TEST_F(SubmitTest, CancelIsToldOnce) {
  Received received;
  std::shared_ptr<SubmitClient::Call> call;
  const ConnectionId stream = Submit(&received, &call);
  server_.Send(stream, Tokens(0, 1));
  call->Cancel();
  call->Cancel();
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.cancelled[stream] == 1; }));
  server_.Fail(stream, absl::CancelledError("as asked"));
  call->Cancel();  // after the end
  EXPECT_EQ(handler_.Get([&] { return handler_.cancelled[stream]; }), 1);
}

TEST_F(SubmitTest, RequestThatDoesNotValidateNeverReachesTheScheduler) {
  SubmitRequest request = TestRequest();
  request.sampling.top_p = 0;
  Received received;
  client_.Submit(request, received.Callbacks());
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorInfo(received.ends[0])->field, "sampling.top_p");
  EXPECT_TRUE(handler_.submitted.empty());
}

TEST_F(SubmitTest, SchedulerWithoutRoom) {
  handler_.takes = false;
  Received received;
  Submit(&received);
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetErrorInfo(received.ends[0])->retryable);
  EXPECT_EQ(client_.DescribeCell(absl::Seconds(5)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(SubmitTest, SlowClientLosesItsOwnStreamOnly) {
  Received other;
  const ConnectionId other_stream = Submit(&other);

  const auto stub = pb::Scheduling::NewStub(loopback_.InProcess());
  pb::SubmitRequest request;
  wire::Write(TestRequest(), &request);
  grpc::ClientContext context;
  const auto reader = stub->Submit(&context, request);
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.submitted.size() == 2; }));
  const ConnectionId slow = handler_.submitted[1].first;
  for (int i = 0; i < 2000; ++i) server_.Send(slow, Tokens(i, 1));
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.cancelled[slow] == 1; }));

  // What it was sent comes first, then why no more does.
  pb::Committed message;
  int received = 0;
  while (reader->Read(&message)) {
    EXPECT_EQ(message.output_index(), received);
    received += message.token_ids_size();
  }
  EXPECT_LE(received, 100);
  const absl::Status status = wire::FromGrpcStatus(reader->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetErrorInfo(status)->reason, "SLOW_CLIENT");

  server_.Send(other_stream, Tokens(0, 1, FinishReason::kStop));
  ASSERT_TRUE(other.WaitForEnd());
  EXPECT_TRUE(other.ends[0].ok());
}

TEST_F(SubmitTest, ClientThatNeverReadsIsCutOff) {
  const auto stub = pb::Scheduling::NewStub(loopback_.InProcess());
  pb::SubmitRequest request;
  wire::Write(TestRequest(), &request);
  grpc::ClientContext context;
  const auto reader = stub->Submit(&context, request);
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.submitted.size() == 1; }));
  for (int i = 0; i < 2000; ++i) server_.Send(handler_.submitted[0].first, Tokens(i, 1));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (server_.num_streams() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(server_.num_streams(), 0u);
  context.TryCancel();
}

TEST_F(SubmitTest, StoppedSchedulerIsRetryable) {
  Received received, other;
  Submit(&received);
  server_.FailAll(Unavailable("SCHEDULER_STOPPED", "bye"));
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(GetErrorInfo(received.ends[0])->reason, "SCHEDULER_STOPPED");
  Submit(&other);
  // A server that goes cancels what it has, or what comes just then. Nobody on this side did.
  loopback_.Stop();
  ASSERT_TRUE(other.WaitForEnd());
  EXPECT_EQ(other.ends[0].code(), absl::StatusCode::kUnavailable) << other.ends[0];
  EXPECT_TRUE(GetErrorInfo(other.ends[0])->retryable);
}

TEST_F(SubmitTest, NobodyThereIsRetryable) {
  SubmitClient client(DialChannel("127.0.0.1:1"));
  Received received;
  client.Submit(TestRequest(), received.Callbacks());
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(GetErrorInfo(received.ends[0])->retryable);
  EXPECT_EQ(client.DescribeCell(absl::Seconds(5)).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(SubmitTest, StreamsThatEndWithoutAFinishAreNotOk) {
  Received received;
  const ConnectionId stream = Submit(&received);
  server_.Send(stream, Tokens(0, 2));
  server_.Fail(stream, absl::OkStatus());
  ASSERT_TRUE(received.WaitForEnd());
  EXPECT_EQ(received.ends[0].code(), absl::StatusCode::kUnavailable);
}

TEST_F(SubmitTest, DestroyedClientEndsItsCallsFirst) {
  Received received;
  {
    SubmitClient client(loopback_.InProcess());
    client.Submit(TestRequest(), received.Callbacks());
    ASSERT_TRUE(handler_.WaitFor([&] { return handler_.submitted.size() == 1; }));
  }
  EXPECT_EQ(received.ends.size(), 1u);
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.cancelled.size() == 1; }));
}

TEST_F(SubmitTest, DescribeCell) {
  const auto cell = client_.DescribeCell(absl::Seconds(5));
  ASSERT_TRUE(cell.ok()) << cell.status();
  EXPECT_EQ(cell->scheduler_epoch, 9u);
  EXPECT_EQ(cell->model_name, "m");
  handler_.answers = false;
  EXPECT_EQ(GetErrorInfo(client_.DescribeCell(absl::Seconds(5)).status())->reason,
            "SHUTTING_DOWN");
}

}  // namespace
}  // namespace mirrorsd::rpc
