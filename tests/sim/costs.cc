// What a step of the core costs, and how much memory it holds.

#include "tests/sim/costs.h"

#include <malloc.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "tests/sim/cell.h"

namespace mirrorsd::sim {
namespace {

// What looking at the clock twice costs.
int64_t ClockNs() {
  static const int64_t cost = [] {
    int64_t least = 1 << 30;
    for (int i = 0; i < 1000; ++i) {
      const int64_t begun = ThreadNs();
      least = std::min(least, ThreadNs() - begun);
    }
    return least;
  }();
  return cost;
}

}  // namespace

int64_t ThreadNs() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

void Cell::CountCosts(const scheduler::Event& event, int64_t ns) {
  ns = std::max<int64_t>(0, ns - ClockNs());
  costs_->all_ns += ns;
  for (const scheduler::Action& action : actions_) {
    costs_->num_outcomes += std::holds_alternative<scheduler::CommitTokens>(action);
  }
  if (const auto* reported = std::get_if<scheduler::WorkerReported>(&event)) {
    const ReportItem& item = reported->item;
    const bool outcome = std::holds_alternative<scheduler::VerifyItemReport>(item);
    if (outcome || std::holds_alternative<scheduler::VerifyRoundDone>(item)) {
      costs_->verify_ns += ns;
      costs_->num_items += outcome;
    } else if (std::holds_alternative<RolloutProgress>(item)) {
      costs_->progress_ns += ns;
      ++costs_->num_progress;
    }
  }
  const int32_t num_live = oracle_.num_live();
  costs_->most_live = std::max(costs_->most_live, num_live);
  if (costs_->memory_live == 0 && clock_.elapsed() > absl::Milliseconds(600)) MeasureMemory();
}

// A copy of this process throws its core away and tells what that gave back.
void Cell::MeasureMemory() {
  costs_->memory_live = oracle_.num_live();
  int ends[2];
  if (pipe(ends) != 0) return;
  const pid_t child = fork();
  if (child == 0) {
    const int64_t before = static_cast<int64_t>(mallinfo2().uordblks + mallinfo2().hblkhd);
    core_.reset();
    const int64_t bytes = before - static_cast<int64_t>(mallinfo2().uordblks + mallinfo2().hblkhd);
    const bool told = write(ends[1], &bytes, sizeof(bytes)) == sizeof(bytes);
    _exit(told ? 0 : 1);
  }
  waitpid(child, nullptr, 0);
  if (read(ends[0], &costs_->memory_bytes, sizeof(int64_t)) < 0) costs_->memory_bytes = 0;
  close(ends[0]);
  close(ends[1]);
}

}  // namespace mirrorsd::sim
