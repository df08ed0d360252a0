#include "services/http/router.h"

namespace mirrorsd::http {

void Router::Add(const std::string& method, const std::string& path, Handler handler) {
  routes_[path][method] = std::move(handler);
}

void Router::AddSimple(const std::string& method, const std::string& path,
                       std::function<Response(const Request&)> handler) {
  Add(method, path, [handler = std::move(handler)](const Request& request, Respond respond) {
    respond(handler(request));
  });
}

void Router::Dispatch(const Request& request, Respond respond) const {
  const auto methods = routes_.find(request.path);
  if (methods == routes_.end()) {
    respond({.status = 404, .body = "There is nothing at this path.\n"});
    return;
  }
  const std::string& method = request.method == "HEAD" ? "GET" : request.method;
  const auto handler = methods->second.find(method);
  if (handler != methods->second.end()) {
    handler->second(request, std::move(respond));
    return;
  }
  std::string allowed;
  for (const auto& [name, unused] : methods->second) {
    allowed += (allowed.empty() ? "" : ", ") + name;
    if (name == "GET") allowed += ", HEAD";
  }
  respond({.status = 405,
           .body = "This path takes " + allowed + ".\n",
           .headers = {{"Allow", allowed}}});
}

}  // namespace mirrorsd::http
