// Bytes on a connection of the HTTP listener, over a real socket: the answer, if any, is HTTP with a status of
// ours, handlers see clean requests only, and the next connection is served.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "services/http/health_routes.h"
#include "services/http/http_server.h"

namespace mirrorsd::http {
namespace {

constexpr size_t kMaxBodyBytes = 600;
constexpr char kKnown[] = "200 400 404 405 413 431 503 ";

Router MakeRouter() {
  Router router;
  AddHealthRoutes({.readiness = [] { return Readiness{true, ""}; },
                   .metrics = [] { return std::string("a 1\n"); }},
                  &router);
  router.AddSimple("POST", "/echo", [](const Request& request) {
    CHECK_EQ(request.method, "POST");
    CHECK_EQ(request.path, "/echo");
    CHECK_LE(request.body.size(), kMaxBodyBytes);
    return Response{.body = request.body};
  });
  return router;
}

const std::string& SocketPath() {
  static const std::string* const path =
      new std::string(absl::StrCat("/tmp/mirrorsd-http-fuzz-", getpid()));
  return *path;
}

HttpServer* StartServer() {
  auto server = HttpServer::Start({.address = "unix:" + SocketPath(),
                                   .num_threads = 1,
                                   .max_header_bytes = 1024,
                                   .max_body_bytes = kMaxBodyBytes},
                                  MakeRouter());
  CHECK(server.ok()) << server.status();
  atexit([] { unlink(SocketPath().c_str()); });
  return server->release();  // it serves until the process ends
}

// What comes back when these bytes are all that is sent.
std::string Exchange(const uint8_t* data, size_t size) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  SocketPath().copy(address.sun_path, sizeof(address.sun_path) - 1);
  CHECK_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  (void)!send(fd, data, size, MSG_NOSIGNAL);  // it may have been closed by then
  shutdown(fd, SHUT_WR);
  std::string answer;
  char chunk[4096];
  ssize_t got = 0;
  while ((got = recv(fd, chunk, sizeof(chunk), 0)) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) answer.append(chunk, static_cast<size_t>(got));
  }
  CHECK(got == 0 || errno == ECONNRESET) << std::strerror(errno);
  close(fd);
  return answer;
}

}  // namespace
}  // namespace mirrorsd::http

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::http;  // NOLINT
  static HttpServer* const server = StartServer();
  (void)server;
  const std::string answer = Exchange(data, size);
  if (!answer.empty()) {
    CHECK(absl::StartsWith(answer, "HTTP/1.1 ")) << answer;
    CHECK(absl::StrContains(kKnown, answer.substr(9, 4))) << answer;
    CHECK(absl::StrContains(answer, "\r\n\r\n")) << answer;
  }
  static uint64_t runs = 0;
  if (++runs % 256 == 0) {
    constexpr char kGood[] = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::string alive = Exchange(reinterpret_cast<const uint8_t*>(kGood), sizeof(kGood) - 1);
    CHECK(absl::StrContains(alive, "alive")) << alive;
  }
  return 0;
}
