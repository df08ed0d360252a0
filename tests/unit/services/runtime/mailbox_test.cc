#include "services/runtime/mailbox.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::runtime {
namespace {

using ::testing::ElementsAre;
using Taken = Mailbox<int>::Taken;

absl::Time Soon() { return MonotonicNow() + absl::Seconds(20); }

TEST(MailboxTest, FullForOrdinaryMessagesStillTakesControlOnesInOrder) {
  Mailbox<int> mailbox(2, 1);
  EXPECT_TRUE(mailbox.Push(1));
  EXPECT_TRUE(mailbox.Push(2));
  EXPECT_FALSE(mailbox.Push(3));
  EXPECT_TRUE(mailbox.PushControl(4));
  EXPECT_FALSE(mailbox.PushControl(5));
  std::vector<int> messages;
  EXPECT_EQ(mailbox.Take(Soon(), &messages), Taken::kMessages);
  EXPECT_THAT(messages, ElementsAre(1, 2, 4));
  EXPECT_TRUE(mailbox.Push(6));  // there is room again
}

TEST(MailboxTest, ControlMessagesUseOrdinaryRoomToo) {
  Mailbox<int> mailbox(1, 1);
  EXPECT_TRUE(mailbox.PushControl(1));
  EXPECT_FALSE(mailbox.Push(2));
  EXPECT_TRUE(mailbox.PushControl(3));
}

TEST(MailboxTest, DeadlineEndsTheWait) {
  Mailbox<int> mailbox(1, 0);
  std::vector<int> messages = {7};
  const absl::Time deadline = MonotonicNow() + absl::Milliseconds(20);
  EXPECT_EQ(mailbox.Take(deadline, &messages), Taken::kDeadline);
  EXPECT_GE(MonotonicNow(), deadline);
  EXPECT_TRUE(messages.empty());
  EXPECT_EQ(mailbox.Take(absl::InfinitePast(), &messages), Taken::kDeadline);
}

TEST(MailboxTest, CloseLetsTheRestBeTakenAndRefusesMore) {
  Mailbox<int> mailbox(4, 0);
  EXPECT_TRUE(mailbox.Push(1));
  mailbox.Close();
  EXPECT_FALSE(mailbox.Push(2));
  EXPECT_FALSE(mailbox.PushControl(2));
  std::vector<int> messages;
  EXPECT_EQ(mailbox.Take(absl::InfiniteFuture(), &messages), Taken::kMessages);
  EXPECT_THAT(messages, ElementsAre(1));
  EXPECT_EQ(mailbox.Take(absl::InfiniteFuture(), &messages), Taken::kClosed);
}

TEST(MailboxTest, CloseWakesTheTaker) {
  Mailbox<int> mailbox(4, 0);
  std::thread closer([&] { mailbox.Close(); });
  std::vector<int> messages;
  EXPECT_EQ(mailbox.Take(absl::InfiniteFuture(), &messages), Taken::kClosed);
  closer.join();
}

TEST(MailboxTest, ManyPushersLoseNothingAndKeepTheirOwnOrder) {
  constexpr int kThreads = 4, kEach = 5000;
  Mailbox<int> mailbox(64, 0);
  std::vector<std::thread> pushers;
  for (int t = 0; t < kThreads; ++t) {
    pushers.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        while (!mailbox.Push(t * kEach + i)) std::this_thread::yield();
      }
    });
  }
  std::vector<int> next(kThreads, 0), messages;
  for (int total = 0; total < kThreads * kEach;) {
    ASSERT_EQ(mailbox.Take(Soon(), &messages), Taken::kMessages);
    ASSERT_LE(messages.size(), 64u);
    for (int message : messages) ASSERT_EQ(message % kEach, next[message / kEach]++);
    total += static_cast<int>(messages.size());
  }
  for (std::thread& pusher : pushers) pusher.join();
}

}  // namespace
}  // namespace mirrorsd::runtime
