#include "services/http/router.h"

#include <gtest/gtest.h>

#include <string>

namespace mirrorsd::http {
namespace {

Response Ask(const Router& router, const std::string& method, const std::string& path) {
  Response answer;
  int answers = 0;
  router.Dispatch({.method = method, .path = path}, [&](Response response) {
    answer = std::move(response);
    ++answers;
  });
  EXPECT_EQ(answers, 1);
  return answer;
}

TEST(RouterTest, FindsPathAndMethod) {
  Router router;
  router.AddSimple("GET", "/a", [](const Request&) { return Response{.body = "get"}; });
  router.AddSimple("POST", "/a", [](const Request&) { return Response{.body = "post"}; });
  EXPECT_EQ(Ask(router, "GET", "/a").body, "get");
  EXPECT_EQ(Ask(router, "HEAD", "/a").body, "get");
  EXPECT_EQ(Ask(router, "POST", "/a").body, "post");
}

TEST(RouterTest, UnknownPathsAndMethodsAreToldApart) {
  Router router;
  router.AddSimple("GET", "/a", [](const Request&) { return Response{}; });
  EXPECT_EQ(Ask(router, "GET", "/b").status, 404);
  EXPECT_EQ(Ask(router, "GET", "/a/").status, 404);
  const Response refused = Ask(router, "DELETE", "/a");
  EXPECT_EQ(refused.status, 405);
  ASSERT_EQ(refused.headers.size(), 1u);
  EXPECT_EQ(refused.headers[0].second, "GET, HEAD");
}

}  // namespace
}  // namespace mirrorsd::http
