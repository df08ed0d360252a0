#include "services/runtime/actor.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::runtime {
namespace {

TEST(ActorTest, TakesMessagesInOrderOnOneThread) {
  std::vector<int> seen;
  std::thread::id thread;
  bool one_thread = true;
  {
    Actor<int> actor("test", 1000, 0);
    actor.Push(0);  // before the start: waits
    actor.Start({.on_message =
                     [&](int&& message) {
                       if (seen.empty()) thread = std::this_thread::get_id();
                       one_thread = one_thread && thread == std::this_thread::get_id();
                       seen.push_back(message);
                     },
                 .next_deadline = [] { return absl::InfiniteFuture(); },
                 .on_time = [](absl::Time) { ADD_FAILURE() << "no deadline was set"; }});
    for (int i = 1; i < 100; ++i) EXPECT_TRUE(actor.Push(i));
  }  // stops after what was pushed
  ASSERT_EQ(seen.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(seen[i], i);
  EXPECT_TRUE(one_thread);
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(ActorTest, DeadlineCallsOnTimeNotBefore) {
  const absl::Time start = MonotonicNow();
  absl::Time deadline = start + absl::Milliseconds(30);
  std::atomic<int> calls{0};
  absl::Time called;
  Actor<int> actor("test", 10, 0);
  actor.Start({.on_message = [](int&&) {},
               .next_deadline = [&] { return deadline; },
               .on_time =
                   [&](absl::Time now) {
                     called = now;
                     deadline = absl::InfiniteFuture();
                     calls.fetch_add(1);
                   }});
  while (calls.load() == 0) std::this_thread::yield();
  actor.Stop();
  EXPECT_EQ(calls.load(), 1);
  EXPECT_GE(called, start + absl::Milliseconds(30));
}

TEST(ActorTest, WorkAndMessagesTakeTurns) {
  // A deadline in the past is "work to do": messages must get in between.
  std::atomic<int> work{0};
  std::atomic<int> work_before_message{-1};
  Actor<int> actor("test", 10, 0);
  actor.Start({.on_message = [&](int&&) { work_before_message.store(work.load()); },
               .next_deadline = [] { return absl::InfinitePast(); },
               .on_time = [&](absl::Time) { work.fetch_add(1); }});
  while (work.load() < 5) std::this_thread::yield();
  EXPECT_TRUE(actor.Push(1));
  while (work_before_message.load() < 0) std::this_thread::yield();
  actor.Stop();
  EXPECT_GE(work_before_message.load(), 5);
}

TEST(ActorTest, StopRunsOnStopOnceAndRefusesMessages) {
  std::atomic<int> stops{0};
  Actor<int> actor("test", 10, 10);
  actor.Start({.on_message = [](int&&) {},
               .next_deadline = [] { return absl::InfiniteFuture(); },
               .on_time = [](absl::Time) {},
               .on_stop = [&] { stops.fetch_add(1); }});
  actor.Stop();
  actor.Stop();
  EXPECT_EQ(stops.load(), 1);
  EXPECT_FALSE(actor.Push(1));
  EXPECT_FALSE(actor.PushControl(1));
}

}  // namespace
}  // namespace mirrorsd::runtime
