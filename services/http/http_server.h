#pragma once
// One HTTP/1.1 listener for everything a process offers by HTTP: health and metrics now, the API later. Every
// size, wait and count has a limit; a connection that breaks one fails alone. Not TLS, not HTTP/2.
// Boost.Beast is seen by beast_http.cc alone.
// Thread rule: the methods from any thread; handlers are called on the server's threads and should not block.

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/http/router.h"

namespace mirrorsd::http {

struct HttpServerOptions {
  std::string address = "127.0.0.1:0";  // HOST:PORT, [V6]:PORT, or unix:/path; port 0: any free one
  int num_threads = 2;
  size_t max_connections = 256;         // more are answered 503 and closed
  size_t max_header_bytes = 16 << 10;   // more: 431
  size_t max_body_bytes = 8 << 20;      // more: 413
  // Bodies of all connections that are being read or answered, by what their headers announce; more: 503.
  size_t max_total_body_bytes = 64 << 20;
  absl::Duration read_timeout = absl::Seconds(30);   // of one request, idle time before it included
  absl::Duration write_timeout = absl::Seconds(30);  // of one answer
};

class HttpServer {
 public:
  // Errors: INVALID_FIELD("http address") where the address is none or cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options,
                                                           Router router);
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // As bound; 0 for a unix address.
  int port() const;
  size_t num_connections() const;

  // Closes the listener and every connection. Idempotent. Not to be called from a handler.
  void Stop();

 private:
  class State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// One GET of another process of ours. Blocks up to `timeout`.
// Errors: INVALID_FIELD for the address, UNAVAILABLE, DEADLINE_EXCEEDED
absl::StatusOr<Response> HttpGet(const std::string& address, const std::string& path,
                                 absl::Duration timeout, size_t max_bytes = 16 << 20);

}  // namespace mirrorsd::http
