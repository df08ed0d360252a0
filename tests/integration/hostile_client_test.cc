// Clients of the public port that no library would be, against a whole cell over real sockets: garbage for HTTP/2,
// broken metadata, messages that never end or are too large, floods, clients that do not read. A well-behaved
// request runs beside each of them and gets its tokens; memory stays where it was.

#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mirrorsd/v1/inference.grpc.pb.h"
#include "services/gateway/gateway_server.h"
#include "services/wire/status_wire.h"
#include "tests/integration/cell.h"
#include "tests/integration/raw_http2.h"

namespace mirrorsd::testing {
namespace {

using namespace http2;  // NOLINT: frames by name

constexpr char kModel[] = "tests/golden/llama3-gqa-tied-bf16";
constexpr char kGenerate[] = "/mirrorsd.v1.Inference/Generate";
constexpr int kMaxRequests = 16;
// Of a hostile stream; of the honest one, which then cannot be behind however slow the machine is.
constexpr int kLongTokens = 400;
constexpr int kHonestTokens = 250;
constexpr size_t kBufferTokens = 300;
constexpr int64_t kMegabyte = 1 << 20;
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MIRRORSD_TEST_KEEPS_FREED_MEMORY
#endif
#endif
#ifdef MIRRORSD_TEST_KEEPS_FREED_MEMORY
constexpr int64_t kMemoryFactor = 6;
#else
constexpr int64_t kMemoryFactor = 1;
#endif

v1::GenerateRequest Request(int max_tokens) {
  v1::GenerateRequest request;
  for (const int id : {5, 6, 7, 8}) request.mutable_token_ids()->add_ids(id);
  request.mutable_sampling()->set_temperature(0);
  request.set_max_tokens(max_tokens);
  request.set_ignore_eos(true);
  return request;
}

class HostileClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status added = cell_.AddFolder(kModel);
    ASSERT_TRUE(added.ok()) << added;
    auto gateway = gateway::GatewayServer::Start(
        {.listen_addresses = {"127.0.0.1:0"},
         .model_files = kModel,
         .scheduler = cell_.InProcess(),
         .limits = {.max_concurrent_requests = kMaxRequests,
                    .max_stream_buffer_tokens = kBufferTokens,
                    .slow_client_grace = absl::Seconds(4)},
         .watch_interval = absl::Milliseconds(5),
         .metrics = &metrics_});
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    ASSERT_TRUE(Eventually([&] { return gateway_->readiness().ready; }));
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(
        absl::StrCat("127.0.0.1:", port()), grpc::InsecureChannelCredentials()));
    ASSERT_TRUE(Generate(kHonestTokens, &expected_).ok());
    ASSERT_EQ(expected_.size(), size_t{kHonestTokens});
    honest_ = std::thread([this] {
      while (!done_.load()) {
        std::vector<TokenId> ids;
        const absl::Status status = Generate(kHonestTokens, &ids);
        if (may_be_refused_.load() && ids.empty() && absl::IsResourceExhausted(status)) {
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          continue;
        }
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_EQ(ids, expected_);
        num_honest_.fetch_add(1);
      }
    });
  }

  void TearDown() override {
    const int before = num_honest_.load();
    EXPECT_TRUE(Eventually([&] { return num_honest_.load() > before; }));
    done_ = true;
    honest_.join();
    EXPECT_TRUE(gateway_->WaitUntilIdle(absl::Seconds(20)));
    EXPECT_TRUE(cell_.WaitUntilIdle());
    gateway_->Stop();
  }

  absl::Status Generate(int max_tokens, std::vector<TokenId>* ids) {
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, Request(max_tokens));
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      ids->insert(ids->end(), response.token_ids().begin(), response.token_ids().end());
    }
    return wire::FromGrpcStatus(reader->Finish());
  }

  int port() const { return gateway_->ports()[0]; }

  // What the server says to one call whose frames come by hand.
  std::string Call(const Headers& headers, const std::string& data, bool end = true) {
    RawConnection connection(port());
    connection.Greet();
    connection.Send(Frame(kHeaders, kEndHeaders, 1, Hpack(headers)) +
                    Frame(kData, end ? kEndStream : 0, 1, data));
    return connection.ReadUntil("grpc-status", 2000);
  }

  TestCell cell_;
  telemetry::MetricRegistry metrics_;
  std::unique_ptr<gateway::GatewayServer> gateway_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::vector<TokenId> expected_;
  std::thread honest_;
  std::atomic<bool> done_{false};
  std::atomic<bool> may_be_refused_{false};  // the honest one too, before its first token
  std::atomic<int> num_honest_{0};
};

TEST_F(HostileClientTest, WhatIsNoHttp2) {
  const std::string start = kPreface + Frame(kSettings, 0, 0, "");
  const std::string headers = Hpack(GrpcHeaders(kGenerate));
  const std::vector<std::string> openings = {
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(500, 'x'),
      std::string(70'000, '\0'),
      "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
      std::string(kPreface) + Frame(kData, 0, 1, "early"),
      start + Frame(kSettings, 0, 0, "12345"),
      start + Frame(kSettings, 1, 0, Setting(3, 1)),
      start + Frame(kSettings, 0, 0, Setting(4, 0xFFFFFFFF) + Setting(5, 1)),
      start + Frame(kWindowUpdate, 0, 0, BigEndian(0, 4)),
      start + Frame(kWindowUpdate, 0, 0, BigEndian(0x7FFFFFFF, 4)),
      start + Frame(kContinuation, kEndHeaders, 1, headers),
      start + Frame(kHeaders, kEndHeaders, 0, headers),
      start + Frame(kHeaders, kEndHeaders, 2, headers),
      start + Frame(kHeaders, 0, 1, headers) + Frame(kData, 0, 1, "between"),
      start + Frame(kHeaders, kEndHeaders | kPadded, 1, std::string(1, '\xff') + headers),
      start + Frame(kHeaders, kEndHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
      start + Frame(kHeaders, kEndHeaders, 1, std::string("\x00\x7f\xff\xff\xff\x7f", 6)),
      start + Frame(kRstStream, 0, 7, BigEndian(0, 4)),
      start + Frame(kPushPromise, kEndHeaders, 1, BigEndian(2, 4) + headers),
      start + Frame(kGoAway, 0, 0, "x"),
      start + Frame(99, 255, 0x80000001, std::string(100, 'y')),
      start + BigEndian(0xFFFFFF, 3) + std::string(6, '\1') + std::string(100'000, 'z'),
  };
  for (const std::string& bytes : openings) {
    RawConnection connection(port());
    connection.Send(bytes);
    connection.ReadUntil("", 20);
  }
  // Floods of what is legal in small numbers.
  for (const std::string& frame :
       {Frame(kPing, 0, 0, "12345678"), Frame(kSettings, 0, 0, Setting(3, 5)),
        Frame(kPriority, 0, 1, BigEndian(1, 4) + "w"), Frame(kWindowUpdate, 0, 0, BigEndian(1, 4)),
        Frame(kHeaders, kEndHeaders, 1, headers) + Frame(kRstStream, 0, 1, BigEndian(8, 4))}) {
    RawConnection connection(port());
    connection.Greet();
    std::string many;
    for (int i = 0; i < 4000; ++i) many += frame;
    connection.Send(many);
    connection.ReadUntil("", 20);
  }
}

TEST_F(HostileClientTest, MutatedFrames) {
  std::mt19937 random(5);
  const std::string request = Request(4).SerializeAsString();
  const std::string good = kPreface + Frame(kSettings, 0, 0, Setting(4, 70'000)) +
                           Frame(kHeaders, kEndHeaders, 1, Hpack(GrpcHeaders(kGenerate))) +
                           Frame(kData, kEndStream, 1, GrpcMessage(request));
  for (int round = 0; round < 200; ++round) {
    std::string bytes = good;
    for (uint32_t i = 1 + random() % 4; i > 0; --i) {
      const size_t at = sizeof(kPreface) - 1 + random() % (bytes.size() - sizeof(kPreface) + 1);
      switch (random() % 4) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes.insert(at, 1 + random() % 9, static_cast<char>(random())); break;
        case 2: bytes.erase(at, 1 + random() % 3); break;
        default: bytes[at] ^= static_cast<char>(1 << random() % 8);
      }
    }
    RawConnection connection(port());
    connection.Send(bytes);
    if (random() % 4 == 0) connection.ReadUntil("grpc-status", 5);
  }
}

TEST_F(HostileClientTest, BrokenMetadata) {
  const std::string message = GrpcMessage(Request(2).SerializeAsString());
  // The frames themselves are right: without this the rest would show nothing.
  EXPECT_TRUE(absl::StrContains(Call(GrpcHeaders(kGenerate), message), "grpc-status"));
  for (const Headers& change : std::vector<Headers>{
           {{"content-type", "text/html"}},
           {{"content-type", ""}},
           {{":path", ""}},
           {{":path", "/"}},
           {{":path", "//////"}},
           {{":path", "/no.such.Service/Method"}},
           {{":path", std::string("/mirrorsd.v1.Inference/\xff\xfe\n", 26)}},
           {{":method", "GET"}},
           {{":method", "PRI"}},
           {{":scheme", "gopher"}},
           {{"te", ""}},
           {{":authority", ""}},
           {{"grpc-timeout", "-5S"}},
           {{"grpc-timeout", "99999999999999999999H"}},
           {{"grpc-timeout", "1x"}},
           {{"grpc-timeout", "0n"}},
           {{"grpc-encoding", "lzma"}},
           {{"grpc-encoding", "gzip"}},
           {{"x-bin", "!!! no base64 !!!"}},
           {{"user-agent", std::string("\r\nX: y\0z", 9)}},
           {{"UPPER", "case"}},
           {{":later", "pseudo"}},
           {{"x", std::string(30'000, 'h')}}}) {
    Call(GrpcHeaders(kGenerate, change), message);
  }
  Headers many = GrpcHeaders(kGenerate);
  for (int i = 0; i < 2000; ++i) many.emplace_back(absl::StrCat("x", i), "y");
  const std::string block = Hpack(many);
  RawConnection connection(port());
  connection.Greet();
  connection.Send(Frame(kHeaders, 0, 1, block.substr(0, 10'000)));
  connection.Send(Frame(kContinuation, kEndHeaders, 1, block.substr(10'000)));
  connection.ReadUntil("grpc-status", 2000);
}

TEST_F(HostileClientTest, BrokenMessages) {
  const std::string request = Request(2).SerializeAsString();
  for (const std::string& data : std::vector<std::string>{
           "",
           std::string("\0\0\0", 3),
           std::string("\0", 1) + BigEndian(0xFFFFFFFF, 4),
           std::string("\0", 1) + BigEndian(5 * kMegabyte, 4) + std::string(1000, 'x'),
           std::string("\1", 1) + BigEndian(request.size(), 4) + request,  // says that it is compressed
           std::string("\7", 1) + BigEndian(request.size(), 4) + request,
           GrpcMessage(request).substr(0, 10),
           GrpcMessage(request) + GrpcMessage(request),
           GrpcMessage(""),
           GrpcMessage("\xff\xff\xff"),
           GrpcMessage(std::string(2000, '\x22'))}) {
    EXPECT_FALSE(Call(GrpcHeaders(kGenerate), data).empty());
    EXPECT_FALSE(Call(GrpcHeaders("/mirrorsd.v1.Inference/Tokenize"), data).empty());
  }
}

TEST_F(HostileClientTest, OversizedRequestsAreRefusedAndForgotten) {
  const int64_t before = ResidentBytes();
  const auto expect = [&](const v1::GenerateRequest& request, absl::StatusCode code) {
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    EXPECT_FALSE(reader->Read(&response));
    const absl::Status status = wire::FromGrpcStatus(reader->Finish());
    EXPECT_EQ(status.code(), code) << status;
    return GetErrorInfo(status).value_or(ErrorInfo{});
  };
  for (int i = 0; i < 4; ++i) {
    v1::GenerateRequest request = Request(2);
    request.set_prompt(std::string(5 * kMegabyte, 'a'));
    expect(request, absl::StatusCode::kResourceExhausted);
    // Two bytes an entry, a hundred in memory: refused before it is built.
    v1::GenerateRequest entries = Request(2);
    for (int n = 0; n < 600'000; ++n) entries.add_stop();
    EXPECT_EQ(expect(entries, absl::StatusCode::kInvalidArgument).field, "message");
    v1::GenerateRequest biases = Request(2);
    for (int n = 0; n < 2000; ++n) (*biases.mutable_sampling()->mutable_logit_bias())[n] = 1;
    EXPECT_EQ(expect(biases, absl::StatusCode::kInvalidArgument).field, "sampling.logit_bias");
  }
  EXPECT_LT(ResidentBytes() - before, kMemoryFactor * 300 * kMegabyte);
}

TEST_F(HostileClientTest, FloodOfStreamsIsRefusedEarly) {
  constexpr int kFlood = 2000;
  may_be_refused_ = true;
  const int64_t before = ResidentBytes();
  RawConnection flood(port());
  flood.Greet(Setting(4, 1 << 20));
  const std::string headers = Hpack(GrpcHeaders(kGenerate));
  const std::string message = GrpcMessage(Request(kLongTokens).SerializeAsString());
  for (uint32_t i = 0; i < kFlood; ++i) {
    ASSERT_TRUE(flood.Send(Frame(kHeaders, kEndHeaders, 2 * i + 1, headers) +
                           Frame(kData, kEndStream, 2 * i + 1, message)));
  }
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(metrics_.Serialize(),
                             "requests_rejected_total{reason=\"TOO_MANY_REQUESTS\"");
  }));
  EXPECT_LE(cell_.Describe().num_requests_running + cell_.Describe().num_requests_waiting,
            kMaxRequests);
  EXPECT_LT(ResidentBytes() - before, kMemoryFactor * 200 * kMegabyte);
}

TEST_F(HostileClientTest, ClientsThatDoNotReadLoseTheirOwnStreams) {
  std::vector<RawConnection> slow;
  for (int i = 0; i < kMaxRequests / 2; ++i) {
    slow.emplace_back(port());
    slow.back().Greet(Setting(4, 0));  // not one byte may be sent on a stream
    slow.back().Send(
        Frame(kHeaders, kEndHeaders, 1, Hpack(GrpcHeaders(kGenerate))) +
        Frame(kData, kEndStream, 1, GrpcMessage(Request(kLongTokens).SerializeAsString())));
  }
  // 400 tokens do not fit the buffer: each is ended, cut off after the grace, and its place is free.
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(metrics_.Serialize(),
                             absl::StrCat("requests_total{finish_reason=\"error\",role=\"gateway\"} ",
                                          kMaxRequests / 2));
  }));
  EXPECT_TRUE(Eventually([&] { return cell_.Describe().num_requests_running <= 1; }));
}

TEST_F(HostileClientTest, HalfMessagesHoldNoPlaceAndLittleMemory) {
  const int64_t before = ResidentBytes();
  {
    std::vector<RawConnection> halves;
    const std::string announced = std::string(1, '\0') + BigEndian(3 * kMegabyte, 4) + "begin";
    for (int i = 0; i < 20; ++i) {
      halves.emplace_back(port());
      halves.back().Greet();
      std::string frames;
      for (uint32_t stream = 1; stream < 100; stream += 2) {
        frames += Frame(kHeaders, kEndHeaders, stream, Hpack(GrpcHeaders(kGenerate))) +
                  Frame(kData, 0, stream, announced);
      }
      halves.back().Send(frames);
    }
    halves.back().ReadUntil("", 200);
    EXPECT_LT(ResidentBytes() - before, kMemoryFactor * 200 * kMegabyte);
    std::vector<TokenId> ids;
    EXPECT_TRUE(Generate(20, &ids).ok());
  }
}

TEST_F(HostileClientTest, FloodOfConnections) {
  const int64_t before = ResidentBytes();
  std::vector<RawConnection> silent;
  for (int i = 0; i < 300; ++i) silent.emplace_back(port());
  std::vector<RawConnection> greeted;
  for (int i = 0; i < 300; ++i) {
    greeted.emplace_back(port());
    greeted.back().Greet();
  }
  std::vector<TokenId> ids;
  EXPECT_TRUE(Generate(20, &ids).ok());
  EXPECT_LT(ResidentBytes() - before, kMemoryFactor * 300 * kMegabyte);
}

}  // namespace
}  // namespace mirrorsd::testing
