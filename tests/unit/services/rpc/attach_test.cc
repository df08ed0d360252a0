// Both ends of an Attach stream against each other.

#include <string>
#include <vector>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/services/rpc/attach_fixture.h"

namespace mirrorsd::rpc {
namespace {

using ::testing::ElementsAre;

class AttachTest : public ::testing::Test {
 protected:
  // Dials and answers with a Welcome of `incarnation`; the connection.
  ConnectionId Attach(AttachClient* client, RecordingListener* listener, uint64_t incarnation) {
    const size_t before = handler_.Get([&] { return handler_.hellos.size(); });
    client->Dial(TestHello("w"));
    EXPECT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() > before; }));
    const ConnectionId connection = handler_.Get([&] { return handler_.hellos.back().first; });
    server_.Greet(connection, {5, incarnation});
    EXPECT_TRUE(listener->WaitFor([&] {
      return !listener->welcomes.empty() && listener->welcomes.back() == Fence{5, incarnation};
    }));
    return connection;
  }

  RecordingHandler handler_;
  AttachServer server_{&handler_, {}};
  Loopback loopback_{server_.service()};
};

TEST_F(AttachTest, ReportsAndCommandsArriveInOrderWithTheirFence) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  const ConnectionId connection = Attach(&client, &listener, 7);
  constexpr int kMessages = 2000;
  for (int i = 0; i < kMessages; ++i) {
    client.Send({5, 7}, {SequenceStarted{.sequence_id = static_cast<SequenceId>(i)}});
    EXPECT_TRUE(server_.Send(connection, {5, 7}, EndSequence{static_cast<SequenceId>(i)}));
    if (i % 100 == 99) server_.Flush(connection);
  }
  ASSERT_TRUE(listener.WaitFor([&] { return listener.commands.size() == kMessages; }));
  ASSERT_TRUE(
      handler_.WaitFor([&] { return handler_.reports[connection].size() == kMessages; }));
  for (int i = 0; i < kMessages; ++i) {
    EXPECT_EQ(std::get<EndSequence>(listener.commands[i]).sequence_id, SequenceId(i));
    EXPECT_EQ(std::get<SequenceStarted>(handler_.reports[connection][i]).sequence_id,
              SequenceId(i));
  }
  for (const Fence& fence : handler_.fences) EXPECT_EQ(fence, (Fence{5, 7}));
  // What waits leaves as one message: far fewer messages than commands, however the threads take turns.
  EXPECT_LE(listener.num_batches, kMessages / 4);
  EXPECT_LE(handler_.num_batches, kMessages);
}

TEST_F(AttachTest, ReportsOfAnotherAttachmentAreDropped) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  const ConnectionId connection = Attach(&client, &listener, 7);
  client.Send({5, 6}, {SequenceEnded{.sequence_id = 1}});
  client.Send({4, 7}, {SequenceEnded{.sequence_id = 2}});
  client.Send({5, 7}, {SequenceEnded{.sequence_id = 3}});
  ASSERT_TRUE(handler_.WaitFor([&] { return !handler_.reports[connection].empty(); }));
  EXPECT_EQ(std::get<SequenceEnded>(handler_.reports[connection][0]).sequence_id, 3u);
}

TEST_F(AttachTest, CommandsOfAnotherFenceAreDropped) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  const ConnectionId connection = Attach(&client, &listener, 7);
  server_.Send(connection, {5, 6}, EndSequence{1});
  server_.Send(connection, {4, 7}, EndSequence{2});
  server_.Send(connection, {5, 7}, EndSequence{3});
  server_.Flush(connection);
  ASSERT_TRUE(listener.WaitFor([&] { return !listener.commands.empty(); }));
  EXPECT_EQ(std::get<EndSequence>(listener.commands[0]).sequence_id, 3u);
}

TEST_F(AttachTest, ClosedStreamIsDetachedOnBothSidesAndDialledAgain) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  listener.on_detached = [&] { client.Dial(TestHello("w")); };  // from within the callback
  const ConnectionId first = Attach(&client, &listener, 7);
  server_.Close(first, Unavailable("CLOSED_BY_SCHEDULER", "faulty"));
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 2; }));
  EXPECT_THAT(handler_.Get([&] { return handler_.detached[first]; }), ElementsAre("faulty"));
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
  const auto info = GetErrorInfo(listener.detached[0]);
  ASSERT_TRUE(info.has_value()) << listener.detached[0];
  EXPECT_EQ(info->reason, "CLOSED_BY_SCHEDULER");
  EXPECT_TRUE(info->retryable);

  const ConnectionId second = handler_.Get([&] { return handler_.hellos[1].first; });
  EXPECT_NE(first, second);
  server_.Greet(second, {5, 8});
  EXPECT_TRUE(listener.WaitFor([&] { return listener.welcomes.size() == 2; }));
  server_.Greet(first, {5, 9});  // gone: a no-op
  EXPECT_TRUE(server_.Send(first, {5, 7}, Drain{}));
  listener.on_detached = nullptr;
}

TEST_F(AttachTest, RefusalForGoodIsNotRetryable) {
  RecordingListener listener;
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  client.Dial(TestHello("w"));
  ASSERT_TRUE(handler_.WaitFor([&] { return handler_.hellos.size() == 1; }));
  server_.Refuse(handler_.hellos[0].first, {"VOCABULARY_MISMATCH", "another vocabulary", false});
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
  const auto info = GetErrorInfo(listener.detached[0]);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "VOCABULARY_MISMATCH");
  EXPECT_FALSE(info->retryable);
  EXPECT_EQ(listener.detached[0].message(), "another vocabulary");
}

TEST_F(AttachTest, SilentSchedulerIsLeft) {
  RecordingListener listener;
  AttachClientOptions options = TestClientOptions(loopback_.Factory());
  options.welcome_timeout = absl::Milliseconds(50);
  AttachClient client(&listener, std::move(options));
  client.Dial(TestHello("w"));
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
  EXPECT_EQ(GetErrorInfo(listener.detached[0])->reason, "NO_WELCOME");
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached.size() == 1; }));
}

TEST_F(AttachTest, NobodyThereIsRetryable) {
  RecordingListener listener;
  int dials = 0;  // outlives the client, whose destructor waits for its callbacks
  AttachClient client(&listener, TestClientOptions(DialTo("127.0.0.1:1")));
  listener.on_detached = [&] {
    if (++dials < 3) client.Dial(TestHello("w"));
  };
  client.Dial(TestHello("w"));
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 3; }));
  EXPECT_EQ(GetErrorInfo(listener.detached[2])->reason, "SCHEDULER_LOST");
  EXPECT_TRUE(GetErrorInfo(listener.detached[2])->retryable);
}

TEST_F(AttachTest, WorkerWithoutRoomDropsTheStream) {
  RecordingListener listener;
  listener.Update([&] { listener.takes_commands = false; });
  AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
  const ConnectionId connection = Attach(&client, &listener, 7);
  server_.Send(connection, {5, 7}, Drain{});
  server_.Flush(connection);
  ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
  EXPECT_EQ(GetErrorInfo(listener.detached[0])->reason, "MAILBOX_FULL");
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached.size() == 1; }));
}

TEST_F(AttachTest, HeartbeatsComeByThemselves) {
  RecordingListener listener;
  AttachClientOptions options = TestClientOptions(DialTo(loopback_.address()));
  options.heartbeat_interval = absl::Milliseconds(10);
  AttachClient client(&listener, std::move(options));
  Attach(&client, &listener, 7);
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.num_heartbeats >= 5; }));
}

TEST_F(AttachTest, StopEndsTheStreamAndTheCalls) {
  RecordingListener listener;
  {
    AttachClient client(&listener, TestClientOptions(loopback_.Factory()));
    Attach(&client, &listener, 7);
    client.Stop();
    EXPECT_EQ(listener.detached.size(), 1u);  // told before Stop returned
  }
  EXPECT_TRUE(handler_.WaitFor([&] { return handler_.detached.size() == 1; }));
}

TEST_F(AttachTest, CloseAllEndsEveryStream) {
  RecordingListener listeners[3];
  std::vector<std::unique_ptr<AttachClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<AttachClient>(&listeners[i],
                                                     TestClientOptions(loopback_.Factory())));
    Attach(clients.back().get(), &listeners[i], i);
  }
  EXPECT_EQ(server_.num_streams(), 3u);
  server_.CloseAll(Unavailable("SCHEDULER_STOPPED", "bye"));
  for (RecordingListener& listener : listeners) {
    ASSERT_TRUE(listener.WaitFor([&] { return listener.detached.size() == 1; }));
    EXPECT_EQ(GetErrorInfo(listener.detached[0])->reason, "SCHEDULER_STOPPED");
  }
}

}  // namespace
}  // namespace mirrorsd::rpc
