#include "services/gateway/gateway_server.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "fake_scheduler.h"
#include "grpcpp/generic/generic_stub.h"
#include "mirrorsd/v1/inference.grpc.pb.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::gateway {
namespace {

constexpr char kModel[] = "tests/golden/llama3-gqa-tied-bf16";

CellDescription ReadyCell() {
  CellDescription cell;
  cell.ready = true;
  cell.model_name = "target";
  cell.vocabulary_fingerprint = LoadModelText(kModel, "")->tokenizer->VocabularyFingerprint();
  cell.context_length = 4096;
  cell.vocabulary_size = 640;
  return cell;
}

template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class GatewayServerTest : public ::testing::Test {
 protected:
  explicit GatewayServerTest(GatewayLimits limits = {}) : scheduler_(ReadyCell()) {
    auto gateway = GatewayServer::Start({.model_files = kModel,
                                         .scheduler = [this] { return scheduler_.Channel(); },
                                         .limits = limits,
                                         .watch_interval = absl::Milliseconds(5),
                                         .version = "1.2.3",
                                         .metrics = &metrics_});
    EXPECT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    stub_ = v1::Inference::NewStub(
        std::static_pointer_cast<grpc::ChannelInterface>(gateway_->InProcessChannel()));
    EXPECT_TRUE(Eventually([&] { return gateway_->readiness().ready; }));
  }

  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
    std::string text;
    std::vector<TokenId> ids;
    v1::GenerateFinal final;

    absl::Status ReadAll() {
      v1::GenerateResponse response;
      while (reader->Read(&response)) {
        text += response.text();
        ids.insert(ids.end(), response.token_ids().begin(), response.token_ids().end());
        if (response.has_final()) final = response.final();
      }
      return wire::FromGrpcStatus(reader->Finish());
    }
  };

  std::unique_ptr<Stream> Generate(const v1::GenerateRequest& request) {
    auto stream = std::make_unique<Stream>();
    stream->reader = stub_->Generate(&stream->context, request);
    return stream;
  }

  static v1::GenerateRequest Prompt(const std::string& text) {
    v1::GenerateRequest request;
    request.set_prompt(text);
    return request;
  }

  bool HasMetric(const std::string& line) {
    return Eventually([&] { return metrics_.Serialize().find(line) != std::string::npos; });
  }

  telemetry::MetricRegistry metrics_;
  FakeScheduler scheduler_;
  std::unique_ptr<GatewayServer> gateway_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(GatewayServerTest, StreamsTextAndTellsWhatTookEffect) {
  v1::GenerateRequest request = Prompt("hello");
  request.mutable_sampling()->set_temperature(0.5f);
  request.set_request_id("mine");
  const auto stream = Generate(request);
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  EXPECT_EQ(submit.request_id, "mine");
  const auto ids = *gateway_->model().tokenizer->Encode("one two", false);
  scheduler_.Commit(connection, {ids.begin(), ids.end() - 1}, FinishReason::kNone);
  scheduler_.Commit(connection, {ids.back()}, FinishReason::kLength);
  const absl::Status status = stream->ReadAll();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(stream->text, "one two");
  EXPECT_EQ(stream->ids, ids);
  EXPECT_EQ(stream->final.finish_reason(), "length");
  EXPECT_EQ(stream->final.parameters().temperature(), 0.5f);
  EXPECT_EQ(stream->final.parameters().seed(), submit.sampling.seed);
  EXPECT_EQ(stream->final.usage().completion_tokens(), static_cast<int>(ids.size()));
  EXPECT_EQ(stream->final.usage().prompt_tokens(), static_cast<int>(submit.token_ids.size()));
  EXPECT_TRUE(HasMetric("requests_total{finish_reason=\"length\",role=\"gateway\"} 1"));
}

TEST_F(GatewayServerTest, AStopStringEndsTheStreamAndAbortsTheRequest) {
  v1::GenerateRequest request = Prompt("hello");
  request.add_stop("two");
  const auto stream = Generate(request);
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  const auto ids = *gateway_->model().tokenizer->Encode("one two three four", false);
  scheduler_.Commit(connection, ids, FinishReason::kNone);
  const absl::Status status = stream->ReadAll();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(stream->text, "one ");
  EXPECT_EQ(stream->final.finish_reason(), "stop");
  EXPECT_EQ(stream->final.usage().completion_tokens(), static_cast<int>(stream->ids.size()));
  EXPECT_LT(stream->ids.size(), ids.size());
  EXPECT_TRUE(scheduler_.WaitForCancel(connection));
  EXPECT_TRUE(HasMetric("requests_total{finish_reason=\"stop\",role=\"gateway\"} 1"));
}

TEST_F(GatewayServerTest, AClientThatLeavesAbortsItsRequest) {
  const auto stream = Generate(Prompt("hello"));
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  stream->context.TryCancel();
  EXPECT_TRUE(scheduler_.WaitForCancel(connection));
  EXPECT_EQ(stream->ReadAll().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(HasMetric("requests_total{finish_reason=\"cancelled\",role=\"gateway\"} 1"));
  EXPECT_TRUE(HasMetric("streams_open{role=\"gateway\"} 0"));
}

TEST_F(GatewayServerTest, TheSchedulersErrorReachesTheClientWhole) {
  const auto stream = Generate(Prompt("hello"));
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  scheduler_.Commit(connection, {5}, FinishReason::kNone);
  scheduler_.Fail(connection, Unavailable("VERIFIER_LOST", "the verifier is lost"));
  const absl::Status status = stream->ReadAll();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetErrorInfo(status).value_or(ErrorInfo{}), (ErrorInfo{.reason = "VERIFIER_LOST", .retryable = true}));
  EXPECT_TRUE(HasMetric("requests_total{finish_reason=\"error\",role=\"gateway\"} 1"));
}

TEST_F(GatewayServerTest, BadRequestsAreRefusedBeforeAnyWork) {
  v1::GenerateRequest request = Prompt("hello");
  request.set_max_tokens(0);
  const absl::Status status = Generate(request)->ReadAll();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorInfo(status)->field, "max_tokens");
  EXPECT_TRUE(HasMetric("requests_rejected_total{reason=\"INVALID_FIELD\",role=\"gateway\"} 1"));
  EXPECT_EQ(metrics_.Serialize().find("requests_total{finish_reason=\"error\",role=\"gateway\"} 1"),
            std::string::npos);
}

// What no client of protobuf would send: bytes by hand, through the generic stub.
TEST_F(GatewayServerTest, InvalidUtf8OnTheWireNamesItsField) {
  grpc::GenericStub generic(gateway_->InProcessChannel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = generic.PrepareCall(&context, "/mirrorsd.v1.Inference/Generate", &queue);
  const std::string bytes = "\x1a\x02"
                            "a\xff";
  const grpc::Slice slice(bytes);
  grpc::Status status;
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  const absl::Status told = wire::FromGrpcStatus(status);
  EXPECT_EQ(told.code(), absl::StatusCode::kInvalidArgument) << told;
  EXPECT_EQ(GetErrorInfo(told)->field, "prompt");
  queue.Shutdown();
}

TEST_F(GatewayServerTest, TokenizeDetokenizeModelsAndInfo) {
  grpc::ClientContext first;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("one two");
  tokenize.set_add_special_tokens(false);
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&first, tokenize, &ids).ok());
  EXPECT_EQ(ids.context_length(), 4096);

  grpc::ClientContext second;
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_token_ids() = ids.token_ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&second, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "one two");

  grpc::ClientContext third;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&third, v1::ListModelsRequest(), &models).ok());
  EXPECT_EQ(models.models(0).name(), "llama3-gqa-tied-bf16");
  EXPECT_EQ(models.models(0).vocabulary_size(), 640);

  grpc::ClientContext fourth;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(stub_->GetServerInfo(&fourth, v1::GetServerInfoRequest(), &info).ok());
  EXPECT_TRUE(info.ready());
  EXPECT_EQ(info.version(), "1.2.3");

  grpc::ClientContext fifth;
  detokenize.add_token_ids(-1);
  const grpc::Status refused = stub_->Detokenize(&fifth, detokenize, &text);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GatewayServerTest, ReadinessIsTheSchedulersAndDrainingRefuses) {
  CellDescription stalled = ReadyCell();
  stalled.ready = false;
  stalled.not_ready_reason = "no round has ended";
  scheduler_.SetCell(stalled);
  EXPECT_TRUE(Eventually([&] { return gateway_->readiness().reason == "no round has ended"; }));
  scheduler_.SetCell(ReadyCell());
  EXPECT_TRUE(Eventually([&] { return gateway_->readiness().ready; }));

  const auto running = Generate(Prompt("hello"));
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  gateway_->Drain();
  EXPECT_FALSE(gateway_->readiness().ready);
  const absl::Status refused = Generate(Prompt("late"))->ReadAll();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(GetErrorInfo(refused)->retryable);
  EXPECT_FALSE(gateway_->WaitUntilIdle(absl::Milliseconds(20)));
  scheduler_.Commit(connection, {5}, FinishReason::kStop);
  EXPECT_TRUE(running->ReadAll().ok());
  EXPECT_TRUE(gateway_->WaitUntilIdle(absl::Seconds(20)));
}

class SmallGatewayTest : public GatewayServerTest {
 protected:
  SmallGatewayTest()
      : GatewayServerTest({.max_concurrent_requests = 1, .max_stream_buffer_tokens = 100,
                           .slow_client_grace = absl::Seconds(20)}) {}
};

TEST_F(SmallGatewayTest, RequestsAboveTheLimitAreRefused) {
  const auto first = Generate(Prompt("hello"));
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  const absl::Status refused = Generate(Prompt("hello"))->ReadAll();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetErrorInfo(refused)->retryable);
  scheduler_.Commit(connection, {5}, FinishReason::kStop);
  EXPECT_TRUE(first->ReadAll().ok());
}

TEST_F(SmallGatewayTest, ASlowClientLosesItsOwnStream) {
  const auto stream = Generate(Prompt("hello"));
  const auto [connection, submit] = scheduler_.WaitForSubmit(0);
  // More than any window holds, in messages that each fit the buffer, and nobody reads.
  bool cancelled = false;
  std::thread waits([&, id = connection] { cancelled = scheduler_.WaitForCancel(id); });
  for (int i = 0; i < 20000 && metrics_.Serialize().find("finish_reason=\"error\",role=\"gateway\"} 1") ==
                                   std::string::npos; ++i) {
    scheduler_.Commit(connection, std::vector<TokenId>(100, 5), FinishReason::kNone);
  }
  waits.join();
  EXPECT_TRUE(cancelled);
  const absl::Status status = stream->ReadAll();  // it reads at last, and is told why
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetErrorInfo(status)->reason, "SLOW_CLIENT");
}

}  // namespace
}  // namespace mirrorsd::gateway
