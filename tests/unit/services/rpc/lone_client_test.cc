// Clients in a process without a server, as in a worker's: nothing else keeps gRPC's callback threads, so
// a channel that dies inside a callback must not take them along.

#include <atomic>
#include <vector>

#include "gtest/gtest.h"
#include "services/rpc/submit_client.h"
#include "tests/unit/services/rpc/attach_fixture.h"

namespace mirrorsd::rpc {
namespace {

TEST(LoneClientTest, AttachClientDialsNobodyAgainAndAgain) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(DialTo("127.0.0.1:1")));
  listener.on_detached = [&] { client.Dial(TestHello("w")); };
  client.Dial(TestHello("w"));
  EXPECT_TRUE(listener.WaitFor([&] { return listener.detached.size() >= 10; }));
  client.Stop();
}

TEST(LoneClientTest, SubmitClientGoesWithItsLastCall) {
  for (int i = 0; i < 10; ++i) {
    std::atomic<int> ends{0};
    {
      SubmitClient client(DialChannel("127.0.0.1:1"));
      client.Submit({.request_id = "r",
                     .vocabulary_fingerprint = "v",
                     .token_ids = {1},
                     .max_tokens = 1},
                    {.on_committed = [](Committed) {},
                     .on_done = [&](absl::Status) { ++ends; }});
    }
    EXPECT_EQ(ends.load(), 1);
  }
}

}  // namespace
}  // namespace mirrorsd::rpc
