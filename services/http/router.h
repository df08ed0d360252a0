#pragma once
// What an HTTP request and its answer are to the rest of the program, and which handler a path has. Paths are
// literal. Not a server: that is http_server.h. Routes are added before the server starts; afterwards
// Dispatch may be called from any thread.

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mirrorsd::http {

struct Request {
  std::string method;  // "GET"
  std::string path;    // without the query
  std::string query;   // without the question mark
  std::string content_type;
  std::string body;
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// Called once per request, from any thread, at once or later, but while the server lives. Where the
// connection is gone it is a no-op; dropping it unanswered closes the connection.
using Respond = std::function<void(Response)>;
using Handler = std::function<void(const Request&, Respond)>;

class Router {
 public:
  // HEAD is answered by the handler of GET.
  void Add(const std::string& method, const std::string& path, Handler handler);

  // A handler that has its answer at once.
  void AddSimple(const std::string& method, const std::string& path,
                 std::function<Response(const Request&)> handler);

  // 404 for a path that is not there, 405 (with Allow) for another method.
  void Dispatch(const Request& request, Respond respond) const;

 private:
  std::map<std::string, std::map<std::string, Handler>> routes_;  // [path][method]
};

}  // namespace mirrorsd::http
