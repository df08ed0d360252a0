#include "services/http/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/http/health_routes.h"

namespace mirrorsd::http {
namespace {

Router EchoRouter() {
  Router router;
  router.AddSimple("GET", "/hello", [](const Request& request) {
    return Response{.body = "hello " + request.query};
  });
  router.AddSimple("POST", "/echo", [](const Request& request) {
    return Response{.content_type = request.content_type, .body = request.body};
  });
  return router;
}

std::unique_ptr<HttpServer> Start(HttpServerOptions options, Router router = EchoRouter()) {
  auto server = HttpServer::Start(std::move(options), std::move(router));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

std::string Address(const HttpServer& server) { return absl::StrCat("127.0.0.1:", server.port()); }

int Connect(const HttpServer& server) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server.port()));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  timeval timeout{.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  return fd;
}

void Write(int fd, const std::string& bytes) {
  EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

// Reads until `end` has come or the connection is closed.
std::string ReadUntil(int fd, const std::string& end) {
  std::string text;
  char chunk[4096];
  while (text.find(end) == std::string::npos) {
    const ssize_t got = recv(fd, chunk, sizeof(chunk), 0);
    if (got <= 0) break;
    text.append(chunk, static_cast<size_t>(got));
  }
  return text;
}

TEST(HttpServerTest, AnswersOverTcpAndUnix) {
  const std::string path = "/tmp/mirrorsd-http-test-" + std::to_string(getpid());
  const auto tcp = Start({});
  const auto local = Start({.address = "unix:" + path});
  ASSERT_TRUE(tcp && local);
  for (const std::string& address : {Address(*tcp), "unix:" + path}) {
    const auto answer = HttpGet(address, "/hello?x=1", absl::Seconds(10));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "hello x=1");
    EXPECT_EQ(HttpGet(address, "/nothing", absl::Seconds(10))->status, 404);
  }
  local->Stop();
  EXPECT_NE(access(path.c_str(), F_OK), 0) << "the socket's name must go with the server";
}

TEST(HttpServerTest, KeepsAConnectionAliveForSeveralRequests) {
  const auto server = Start({});
  const int fd = Connect(*server);
  for (int i = 0; i < 3; ++i) {
    Write(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    EXPECT_NE(ReadUntil(fd, "\r\n\r\nbody").find("200 OK"), std::string::npos);
  }
  Write(fd, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_NE(ReadUntil(fd, "never").find("hello"), std::string::npos);  // up to the close
  close(fd);
}

TEST(HttpServerTest, HeadHasNoBody) {
  const auto server = Start({});
  const int fd = Connect(*server);
  Write(fd, "HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string answer = ReadUntil(fd, "never");
  EXPECT_NE(answer.find("Content-Length: 6"), std::string::npos) << answer;
  EXPECT_EQ(answer.substr(answer.size() - 4), "\r\n\r\n") << answer;
  close(fd);
}

TEST(HttpServerTest, WhatBreaksALimitFailsAlone) {
  const auto server = Start({.max_header_bytes = 1024, .max_body_bytes = 100});
  const struct {
    std::string request;
    std::string status;
  } cases[] = {
      {"GET /hello HTTP/1.1\r\nHost: " + std::string(4096, 'a') + "\r\n\r\n", " 431 "},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", " 413 "},
      {"no http at all\r\n\r\n", " 400 "},
      {"GET /hello HTTP/1.1\r\nContent-Length: x\r\n\r\n", " 400 "},
  };
  for (const auto& bad : cases) {
    const int fd = Connect(*server);
    Write(fd, bad.request);
    EXPECT_NE(ReadUntil(fd, "never").find(bad.status), std::string::npos) << bad.request;
    close(fd);
    EXPECT_EQ(HttpGet(Address(*server), "/hello", absl::Seconds(10))->status, 200);
  }
}

TEST(HttpServerTest, SilentConnectionIsClosed) {
  const auto server = Start({.read_timeout = absl::Milliseconds(100)});
  const int fd = Connect(*server);
  Write(fd, "GET /hel");
  EXPECT_EQ(ReadUntil(fd, "never"), "");  // closed, not answered; the socket's own limit is 10 s
  close(fd);
}

TEST(HttpServerTest, ConnectionsAboveTheLimitAreRefused) {
  const auto server = Start({.max_connections = 2});
  const int first = Connect(*server);
  const int second = Connect(*server);
  while (server->num_connections() < 2) std::this_thread::yield();
  EXPECT_EQ(HttpGet(Address(*server), "/hello", absl::Seconds(10))->status, 503);
  close(first);
  close(second);
  while (server->num_connections() > 0) std::this_thread::yield();
  EXPECT_EQ(HttpGet(Address(*server), "/hello", absl::Seconds(10))->status, 200);
}

// A body's room is taken with its header, so that many slow ones cannot add up.
TEST(HttpServerTest, BodiesOfAllConnectionsAreBounded) {
  const auto server = Start({.max_body_bytes = 1000, .max_total_body_bytes = 1500});
  const int slow = Connect(*server);
  Write(slow, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
  const auto Post = [&](const std::string& framing) {
    const int fd = Connect(*server);
    Write(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + framing);
    const std::string answer = ReadUntil(fd, "never");
    close(fd);
    return answer;
  };
  const std::string fits = "Content-Length: 4\r\n\r\nbody";
  while (Post("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").find(" 503 ") == std::string::npos) {
    std::this_thread::yield();  // the slow one's header is still on its way
  }
  EXPECT_NE(Post(fits).find(" 200 "), std::string::npos);
  Write(slow, std::string(996, 'x'));
  EXPECT_NE(ReadUntil(slow, "xxx").find(" 200 "), std::string::npos);
  // Its room is given back when its answer is out, which we may hear of first.
  while (Post("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n").find(" 200 ") ==
         std::string::npos) {
    std::this_thread::yield();
  }
  close(slow);
}

// One byte now and then resets no clock: the whole request has its time.
TEST(HttpServerTest, SlowLorisIsClosed) {
  const auto server = Start({.read_timeout = absl::Milliseconds(300)});
  const int fd = Connect(*server);
  Write(fd, "GET /hello HTTP/1.1\r\n");
  const absl::Time started = absl::Now();
  while (send(fd, "A: b\r\n", 6, MSG_NOSIGNAL) > 0 && absl::Now() - started < absl::Seconds(10)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_LT(absl::Now() - started, absl::Seconds(10));
  EXPECT_EQ(server->num_connections(), 0u);
  close(fd);
}

// Reads nothing of a large answer: its connection alone goes, and what waits for it is the kernel's.
TEST(HttpServerTest, ClientThatDoesNotReadIsClosed) {
  Router router;
  router.AddSimple("GET", "/large", [](const Request&) {
    return Response{.body = std::string(64 << 20, 'x')};
  });
  const auto server =
      Start({.write_timeout = absl::Milliseconds(200)}, std::move(router));
  const int fd = Connect(*server);
  Write(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
  const absl::Time started = absl::Now();
  while (server->num_connections() == 0) std::this_thread::yield();
  while (server->num_connections() > 0 && absl::Now() - started < absl::Seconds(20)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(server->num_connections(), 0u);
  close(fd);
}

TEST(HttpServerTest, HandlerMayAnswerLaterFromAnotherThread) {
  Router router;
  std::thread later;
  router.Add("GET", "/later", [&](const Request&, Respond respond) {
    later = std::thread([respond] {
      respond({.body = "at last"});
      respond({.body = "twice is a no-op"});
    });
  });
  const auto server = Start({}, std::move(router));
  EXPECT_EQ(HttpGet(Address(*server), "/later", absl::Seconds(10))->body, "at last");
  later.join();
}

TEST(HttpServerTest, BadAddressesAreErrors) {
  for (const std::string address : {"nonsense", "127.0.0.1:99999", "unix:", "192.0.2.1:0"}) {
    const auto server = HttpServer::Start({.address = address}, Router());
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << address;
  }
  const auto server = Start({});
  EXPECT_FALSE(HttpServer::Start({.address = Address(*server)}, Router()).ok());
}

TEST(HttpGetTest, SaysWhyThereIsNoAnswer) {
  EXPECT_EQ(HttpGet("unix:/no/such/socket", "/", absl::Seconds(10)).status().code(),
            absl::StatusCode::kUnavailable);
  Router router;
  router.Add("GET", "/never", [](const Request&, Respond) {});
  const auto server = Start({}, std::move(router));
  EXPECT_NE(HttpGet(Address(*server), "/never", absl::Milliseconds(100)).status().code(),
            absl::StatusCode::kOk);
}

TEST(HealthRoutesTest, ReadinessFollowsTheProcess) {
  std::atomic<bool> ready{false};
  Router router;
  AddHealthRoutes({.readiness = [&] { return Readiness{ready.load(), "no verifier"}; },
                   .metrics = [] { return "a 1\n"; }},
                  &router);
  const auto server = Start({}, std::move(router));
  EXPECT_EQ(HttpGet(Address(*server), "/livez", absl::Seconds(10))->status, 200);
  const auto not_ready = HttpGet(Address(*server), "/readyz", absl::Seconds(10));
  EXPECT_EQ(not_ready->status, 503);
  EXPECT_EQ(not_ready->body, "not ready: no verifier\n");
  ready = true;
  EXPECT_EQ(HttpGet(Address(*server), "/readyz", absl::Seconds(10))->status, 200);
  const auto metrics = HttpGet(Address(*server), "/metrics", absl::Seconds(10));
  EXPECT_EQ(metrics->body, "a 1\n");
  EXPECT_NE(metrics->content_type.find("version=0.0.4"), std::string::npos);
}

}  // namespace
}  // namespace mirrorsd::http
