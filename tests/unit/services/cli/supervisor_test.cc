#include "services/cell/supervisor.h"

#include <gtest/gtest.h>
#include <sys/types.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "services/cell/signals.h"

namespace mirrorsd::cell {
namespace {

ChildSpec Shell(const std::string& name, const std::string& script) {
  return {.name = name, .arguments = {"/bin/sh", "-c", script}};
}

class SupervisorTest : public ::testing::Test {
 protected:
  std::unique_ptr<Supervisor> Start(std::vector<ChildSpec> children) {
    auto supervisor = std::make_unique<Supervisor>(
        std::move(children),
        SupervisorOptions{.first_backoff = absl::Milliseconds(10),
                          .max_backoff = absl::Milliseconds(40)},
        [this](const std::string& line) { lines_.push_back(line); });
    EXPECT_TRUE(supervisor->Start().ok());
    return supervisor;
  }

  template <typename Condition>
  absl::Status LookUntil(Supervisor* supervisor, const Condition& condition) {
    for (int i = 0; i < 4000 && !condition(); ++i) {
      if (absl::Status status = supervisor->Look(); !status.ok()) return status;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return condition() ? absl::OkStatus() : absl::DeadlineExceededError("in vain");
  }

  std::vector<std::string> lines_;
};

TEST_F(SupervisorTest, RestartsWhatDiesWithANewPid) {
  const auto supervisor = Start({Shell("a", "sleep 1000"), Shell("b", "sleep 1000")});
  const pid_t first = supervisor->pid("a");
  const pid_t other = supervisor->pid("b");
  kill(first, SIGKILL);
  EXPECT_TRUE(LookUntil(supervisor.get(), [&] {
                return supervisor->pid("a") != first && supervisor->pid("a") != 0;
              }).ok());
  EXPECT_EQ(supervisor->pid("b"), other);
  ASSERT_EQ(lines_.size(), 4u);
  EXPECT_EQ(lines_[2], "a (pid " + std::to_string(first) +
                           ") was killed by signal 9; restart in 10 ms");
}

TEST_F(SupervisorTest, BackoffGrowsToItsLimit) {
  const auto supervisor = Start({Shell("a", "exit 1")});
  EXPECT_TRUE(LookUntil(supervisor.get(), [&] { return lines_.size() >= 10; }).ok());
  const auto ends_with = [&](size_t i, const std::string& end) {
    return lines_[i].size() >= end.size() &&
           lines_[i].compare(lines_[i].size() - end.size(), end.size(), end) == 0;
  };
  EXPECT_TRUE(ends_with(1, "in 10 ms")) << lines_[1];
  EXPECT_TRUE(ends_with(3, "in 20 ms")) << lines_[3];
  EXPECT_TRUE(ends_with(5, "in 40 ms")) << lines_[5];
  EXPECT_TRUE(ends_with(9, "in 40 ms")) << lines_[9];
}

TEST_F(SupervisorTest, AChildThatWouldFailAgainIsTheEnd) {
  for (const int code : {2, 3}) {
    const auto supervisor = Start({Shell("a", "exit " + std::to_string(code))});
    const absl::Status status = LookUntil(supervisor.get(), [] { return false; });
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_EQ(supervisor->fatal_exit_code(), code);
  }
}

TEST_F(SupervisorTest, StopsInGoodTimeOrKills) {
  BlockSignals();  // as in every main; children have them unblocked all the same
  const auto supervisor = Start({Shell("good", "sleep 1000"),
                                 Shell("stubborn", "trap '' TERM; echo; sleep 1000; sleep 1000")});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the trap is set
  const pid_t stubborn = supervisor->pid("stubborn");
  supervisor->Stop("stubborn", SIGTERM);
  EXPECT_FALSE(supervisor->WaitForStopped(absl::Milliseconds(100)));
  EXPECT_NE(kill(stubborn, 0), 0);
  supervisor->Stop("good", SIGTERM);
  supervisor->WaitForStopped(absl::Seconds(20));
  EXPECT_EQ(supervisor->pid("good"), 0);
  EXPECT_TRUE(supervisor->Look().ok());
  EXPECT_EQ(supervisor->pid("good"), 0) << "what was stopped stays so";
}

}  // namespace
}  // namespace mirrorsd::cell
