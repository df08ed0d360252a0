#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <unistd.h>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/http/http_server.h"

namespace mirrorsd::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using boost::system::error_code;
using Generic = asio::generic::stream_protocol;
using Stream = beast::basic_stream<Generic>;
using TcpEndpoint = asio::ip::tcp::endpoint;
using LocalEndpoint = asio::local::stream_protocol::endpoint;
using Endpoint = std::variant<TcpEndpoint, LocalEndpoint>;

constexpr char kUnixPrefix[] = "unix:";

std::chrono::nanoseconds Chrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

absl::StatusOr<Endpoint> ParseAddress(asio::io_context& context, const std::string& address) {
  if (address.rfind(kUnixPrefix, 0) == 0) {
    const std::string path = address.substr(sizeof(kUnixPrefix) - 1);
    if (path.empty() || path.size() > 107) {
      return InvalidField("http address", absl::StrCat("no usable path in ", address),
                          "1 to 107 bytes");
    }
    return Endpoint(LocalEndpoint(path));
  }
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return InvalidField("http address", absl::StrCat("'", address, "' is not HOST:PORT"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  error_code error;
  const auto found = asio::ip::tcp::resolver(context).resolve(host, std::to_string(port), error);
  if (error || found.empty()) {
    return InvalidField("http address", absl::StrCat("'", host, "' is no known host"));
  }
  return Endpoint(found.begin()->endpoint());
}

// The answer to what Beast could not read as a request, or none where silence is right.
std::optional<Response> AnswerToBadRequest(const error_code& error) {
  if (error == bhttp::error::header_limit) return Response{.status = 431, .body = "Header too large.\n"};
  if (error == bhttp::error::body_limit) return Response{.status = 413, .body = "Body too large.\n"};
  if (error == beast::error::timeout || error == bhttp::error::end_of_stream) return std::nullopt;
  if (error.category() == make_error_code(bhttp::error::bad_method).category()) {
    return Response{.status = 400, .body = "This is not an HTTP/1.1 request.\n"};
  }
  return std::nullopt;
}

struct Shared {
  HttpServerOptions options;
  Router router;
  std::atomic<size_t> num_connections{0};
  std::atomic<size_t> body_bytes{0};
};

// One connection: request, answer, and again while it is kept alive. Lives as long as an operation or a
// handler's Respond holds it; everything runs on the stream's strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Generic::socket socket, Shared* shared) : stream_(std::move(socket)), shared_(shared) {
    shared_->num_connections.fetch_add(1);
  }
  ~Connection() {
    ReleaseBody();
    shared_->num_connections.fetch_sub(1);
  }

  void Start() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->Read(); });
  }

 private:
  void Read() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_->options.max_header_bytes));
    parser_->body_limit(shared_->options.max_body_bytes);
    stream_.expires_after(Chrono(shared_->options.read_timeout));
    bhttp::async_read_header(stream_, buffer_, *parser_,
                             [self = shared_from_this()](error_code error, size_t) {
                               self->OnHeader(error);
                             });
  }

  void OnHeader(const error_code& error) {
    if (error || parser_->is_done()) return OnRead(error);
    // Room for the body is taken before it comes: many connections must not add up to too much.
    body_bytes_ = parser_->content_length().value_or(shared_->options.max_body_bytes);
    if (shared_->body_bytes.fetch_add(body_bytes_) + body_bytes_ >
        shared_->options.max_total_body_bytes) {
      ReleaseBody();
      keep_alive_ = false;
      return Write({.status = 503,
                    .body = "Too many bodies at a time.\n",
                    .headers = {{"Retry-After", "1"}}});
    }
    bhttp::async_read(stream_, buffer_, *parser_,
                      [self = shared_from_this()](error_code error, size_t) {
                        self->OnRead(error);
                      });
  }

  void ReleaseBody() { shared_->body_bytes.fetch_sub(std::exchange(body_bytes_, 0)); }

  void OnRead(const error_code& error) {
    if (error) {
      std::optional<Response> answer = AnswerToBadRequest(error);
      if (!answer.has_value()) return Close();
      keep_alive_ = false;
      return Write(*std::move(answer));
    }
    const auto& message = parser_->get();
    keep_alive_ = message.keep_alive();
    head_only_ = message.method() == bhttp::verb::head;
    Request request;
    request.method = std::string(message.method_string());
    const std::string target(message.target());
    const size_t question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string::npos) request.query = target.substr(question + 1);
    request.content_type = std::string(message[bhttp::field::content_type]);
    request.body = std::move(parser_->get().body());
    stream_.expires_never();  // the handler's time is the handler's
    shared_->router.Dispatch(
        request, [self = shared_from_this(), answered = std::make_shared<std::atomic<bool>>(false)](
                     Response response) {
          if (answered->exchange(true)) return;
          asio::post(self->stream_.get_executor(), [self, response = std::move(response)]() mutable {
            self->Write(std::move(response));
          });
        });
  }

  void Write(Response response) {
    answer_ = {};
    answer_.version(11);
    answer_.result(static_cast<unsigned>(response.status));
    answer_.set(bhttp::field::server, "mirrorsd");
    answer_.set(bhttp::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) answer_.set(name, value);
    answer_.keep_alive(keep_alive_);
    answer_.content_length(response.body.size());
    if (!head_only_) answer_.body() = std::move(response.body);
    stream_.expires_after(Chrono(shared_->options.write_timeout));
    bhttp::async_write(stream_, answer_, [self = shared_from_this()](error_code error, size_t) {
      self->ReleaseBody();
      if (error || !self->keep_alive_) return self->Close();
      self->Read();
    });
  }

  void Close() {
    error_code ignored;
    stream_.socket().shutdown(Generic::socket::shutdown_send, ignored);
    stream_.close();
  }

  Stream stream_;
  Shared* const shared_;
  beast::flat_buffer buffer_;
  std::optional<bhttp::request_parser<bhttp::string_body>> parser_;
  bhttp::response<bhttp::string_body> answer_;
  size_t body_bytes_ = 0;  // taken of shared_->body_bytes
  bool keep_alive_ = false;
  bool head_only_ = false;
};

}  // namespace

class HttpServer::State {
 public:
  State(HttpServerOptions options, Router router)
      : shared_{std::move(options), std::move(router)}, context_(shared_.options.num_threads) {}
  ~State() { Stop(); }

  absl::Status Listen() {
    const absl::StatusOr<Endpoint> endpoint = ParseAddress(context_, shared_.options.address);
    if (!endpoint.ok()) return endpoint.status();
    error_code error;
    if (const auto* local = std::get_if<LocalEndpoint>(&*endpoint)) {
      unlink(local->path().c_str());
      unix_path_ = local->path();
      error = Open(*local, &local_acceptor_);
    } else {
      error = Open(std::get<TcpEndpoint>(*endpoint), &tcp_acceptor_);
    }
    if (error) {
      return InvalidField("http address", absl::StrCat("cannot listen on ", shared_.options.address,
                                                       ": ", error.message()));
    }
    for (int i = 0; i < shared_.options.num_threads; ++i) {
      threads_.emplace_back([this] { context_.run(); });
    }
    return absl::OkStatus();
  }

  void Stop() {
    if (stopped_.exchange(true)) return;
    context_.stop();
    for (std::thread& thread : threads_) thread.join();
    tcp_acceptor_.reset();
    local_acceptor_.reset();
    if (!unix_path_.empty()) unlink(unix_path_.c_str());
  }

  int port() const { return port_; }
  size_t num_connections() const { return shared_.num_connections.load(); }

 private:
  template <typename Endpoint, typename Acceptor>
  error_code Open(const Endpoint& endpoint, std::optional<Acceptor>* acceptor) {
    error_code error;
    acceptor->emplace(context_);
    Acceptor& opened = **acceptor;
    opened.open(endpoint.protocol(), error);
    if (error) return error;
    opened.set_option(asio::socket_base::reuse_address(true), error);
    opened.bind(endpoint, error);
    if (error) return error;
    opened.listen(asio::socket_base::max_listen_connections, error);
    if (error) return error;
    if constexpr (std::is_same_v<Endpoint, TcpEndpoint>) {
      port_ = opened.local_endpoint(error).port();
    }
    Accept(&opened);
    return {};
  }

  template <typename Acceptor>
  void Accept(Acceptor* acceptor) {
    acceptor->async_accept(asio::make_strand(context_), [this, acceptor](error_code error,
                                                                         auto socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) {
        Generic::socket generic(std::move(socket));
        if (shared_.num_connections.load() >= shared_.options.max_connections) {
          Refuse(std::move(generic));
        } else {
          std::make_shared<Connection>(std::move(generic), &shared_)->Start();
        }
      }
      Accept(acceptor);  // also after an error: of descriptors there may be more later
    });
  }

  static void Refuse(Generic::socket socket) {
    static constexpr char kAnswer[] =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 21\r\n"
        "Connection: close\r\n\r\nToo many connections.";
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(kAnswer, sizeof(kAnswer) - 1), ignored);
    socket.shutdown(Generic::socket::shutdown_send, ignored);
  }

  Shared shared_;  // outlives the connections, which the context holds
  asio::io_context context_;
  std::optional<asio::ip::tcp::acceptor> tcp_acceptor_;
  std::optional<asio::local::stream_protocol::acceptor> local_acceptor_;
  std::string unix_path_;
  int port_ = 0;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopped_{false};
};

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                              Router router) {
  auto state = std::make_unique<State>(std::move(options), std::move(router));
  if (absl::Status status = state->Listen(); !status.ok()) return status;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

int HttpServer::port() const { return state_->port(); }
size_t HttpServer::num_connections() const { return state_->num_connections(); }
void HttpServer::Stop() { state_->Stop(); }

absl::StatusOr<Response> HttpGet(const std::string& address, const std::string& path,
                                 absl::Duration timeout, size_t max_bytes) {
  asio::io_context context;
  const absl::StatusOr<Endpoint> endpoint = ParseAddress(context, address);
  if (!endpoint.ok()) return endpoint.status();
  const Generic::endpoint generic = std::visit(
      [](const auto& each) { return Generic::endpoint(each); }, *endpoint);

  Stream stream(context);
  stream.expires_after(Chrono(timeout));  // of all steps together
  bhttp::request<bhttp::empty_body> request(bhttp::verb::get, path, 11);
  request.set(bhttp::field::host, "localhost");
  request.keep_alive(false);
  beast::flat_buffer buffer;
  bhttp::response_parser<bhttp::string_body> parser;
  parser.body_limit(max_bytes);
  error_code outcome;
  const auto on_read = [&](error_code error, size_t) { outcome = error; };
  const auto on_write = [&](error_code error, size_t) {
    outcome = error;
    if (!error) bhttp::async_read(stream, buffer, parser, on_read);
  };
  stream.async_connect(generic, [&](error_code error) {
    outcome = error;
    if (!error) bhttp::async_write(stream, request, on_write);
  });
  context.run();
  if (outcome == beast::error::timeout) {
    return absl::DeadlineExceededError(absl::StrCat(address, " did not answer in time"));
  }
  if (outcome) {
    return Unavailable("HTTP_PEER", absl::StrCat(address, ": ", outcome.message()));
  }
  Response response;
  response.status = static_cast<int>(parser.get().result_int());
  response.content_type = std::string(parser.get()[bhttp::field::content_type]);
  response.body = std::move(parser.get().body());
  return response;
}

}  // namespace mirrorsd::http
