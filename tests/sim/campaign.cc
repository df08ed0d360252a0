#include "tests/sim/campaign.h"

#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <new>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "tests/sim/cell.h"

namespace mirrorsd::sim {
namespace {

constexpr int kMaxSecondsPerSchedule = 60;  // of processor time
constexpr size_t kMaxMessage = 2000;

bool skip_invariants = false;

// What parent and child share.
struct Slot {
  std::atomic<uint64_t> seed;
  std::atomic<int64_t> num_done;
  std::atomic<int64_t> num_steps;
  std::atomic<bool> failed;  // until the parent has taken the message
  char message[kMaxMessage];
  Coverage coverage;
};
struct Shared {
  std::atomic<int64_t> next;
  std::atomic<bool> stop;
};

template <typename T>
T* MapShared(size_t num) {
  void* memory = mmap(nullptr, num * sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                      -1, 0);
  CHECK(memory != MAP_FAILED);
  T* objects = static_cast<T*>(memory);
  for (size_t i = 0; i < num; ++i) new (&objects[i]) T();
  return objects;
}

void Put(Slot* slot, const std::string& message) {
  std::strncpy(slot->message, message.c_str(), kMaxMessage - 1);
  slot->failed = true;
}

// Of this process, from now on; then SIGPROF ends it. Not the clock's time: a machine may pause. 0: no limit.
void LimitProcessorTime(int seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &timer, nullptr);
}

// What a child that died had to say: the first line of its standard error.
std::string LastWords(int errors, int status) {
  char text[kMaxMessage] = {};
  const ssize_t size = pread(errors, text, sizeof(text) - 1, 0);
  std::string words = size > 0 ? std::string(text, size) : "";
  words = words.substr(0, words.find('\n'));
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (signal == SIGPROF) return "a step never ends";
  return absl::StrCat("died by signal ", signal, ": ", words);
}

struct Child {
  pid_t pid = 0;
  int errors = -1;
};

template <typename Body>
Child Fork(Body body) {
  Child child;
  child.errors = memfd_create("errors", 0);
  child.pid = fork();
  CHECK(child.pid >= 0);
  if (child.pid == 0) {
    dup2(child.errors, STDERR_FILENO);
    body();
    _exit(0);
  }
  return child;
}

void Work(const Campaign& campaign, Shared* shared, Slot* slot) {
  while (!shared->stop && getppid() != 1) {
    const int64_t i = shared->next.fetch_add(1);
    if (i >= campaign.num_seeds) return;
    slot->seed = campaign.first_seed + static_cast<uint64_t>(i);
    LimitProcessorTime(kMaxSecondsPerSchedule);
    int64_t num_steps = 0;
    const std::string violation = RunHere(MakePlan(slot->seed), &slot->coverage, &num_steps, nullptr);
    LimitProcessorTime(0);
    slot->num_steps += num_steps;
    ++slot->num_done;
    if (violation.empty()) continue;
    Put(slot, violation);
    while (slot->failed && getppid() != 1) usleep(1000);
  }
}

CampaignResult RunInProcess(const Campaign& campaign) {
  static std::atomic<uint64_t> seed;
  std::signal(SIGABRT, [](int) { std::cerr << "in schedule " << seed.load() << "\n"; });
  CampaignResult result;
  for (; result.num_schedules < campaign.num_seeds; ++result.num_schedules) {
    seed = campaign.first_seed + static_cast<uint64_t>(result.num_schedules);
    const std::string violation =
        RunHere(MakePlan(seed), &result.coverage, &result.num_steps, nullptr);
    if (violation.empty()) continue;
    result.failures.push_back({seed, violation});
    if (static_cast<int64_t>(result.failures.size()) >= campaign.max_failures) break;
  }
  return result;
}

// Takes what a slot has to tell; starts a new child where one died.
class Supervisor {
 public:
  explicit Supervisor(const Campaign& campaign)
      : campaign_(campaign),
        shared_(MapShared<Shared>(1)),
        slots_(MapShared<Slot>(campaign.num_processes)),
        children_(campaign.num_processes) {
    for (size_t i = 0; i < children_.size(); ++i) Start(i);
  }

  CampaignResult Run() {
    auto told = std::chrono::steady_clock::now();
    while (num_running_ > 0) {
      usleep(2000);
      for (size_t i = 0; i < children_.size(); ++i) Look(i);
      if (static_cast<int64_t>(result_.failures.size()) >= campaign_.max_failures) {
        shared_->stop = true;
      }
      const auto now = std::chrono::steady_clock::now();
      if (now - told < std::chrono::seconds(1)) continue;
      told = now;
      if (campaign_.on_progress) campaign_.on_progress(NumDone(), result_.failures.size());
    }
    result_.num_schedules = NumDone();
    for (size_t i = 0; i < children_.size(); ++i) {
      result_.coverage.Add(slots_[i].coverage);
      result_.num_steps += slots_[i].num_steps;
    }
    munmap(slots_, children_.size() * sizeof(Slot));
    munmap(shared_, sizeof(Shared));
    return result_;
  }

 private:
  void Start(size_t i) {
    children_[i] = Fork([this, i] { Work(campaign_, shared_, &slots_[i]); });
    ++num_running_;
  }

  int64_t NumDone() const {
    int64_t num = 0;
    for (size_t i = 0; i < children_.size(); ++i) num += slots_[i].num_done;
    return num;
  }

  void Add(const Failure& failure) {
    if (campaign_.on_failure) campaign_.on_failure(failure);
    result_.failures.push_back(failure);
  }

  void Look(size_t i) {
    Slot& slot = slots_[i];
    Child& child = children_[i];
    if (child.pid == 0) return;
    if (slot.failed) {
      Add({slot.seed, slot.message});
      slot.failed = false;
    }
    int status = 0;
    if (waitpid(child.pid, &status, WNOHANG) != child.pid) return;
    --num_running_;
    child.pid = 0;
    const bool died = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (died) {
      ++slot.num_done;
      Add({slot.seed, LastWords(child.errors, status)});
    }
    close(child.errors);
    if (died && !shared_->stop) Start(i);
  }

  const Campaign& campaign_;
  Shared* shared_;
  Slot* slots_;
  std::vector<Child> children_;
  int num_running_ = 0;
  CampaignResult result_;
};

}  // namespace

void SkipInvariants() { skip_invariants = true; }

std::string RunHere(const Plan& plan, Coverage* coverage, int64_t* num_steps, std::string* story) {
  Cell cell(plan, coverage, story != nullptr);
  if (skip_invariants) cell.SkipInvariants();
  std::string violation = cell.Run();
  if (num_steps != nullptr) *num_steps += cell.num_steps();
  if (story != nullptr) *story += cell.story();
  const bool whole = !plan.spare_faults.empty();
  if (violation.empty() && whole && cell.num_faults_in_midstream() < kMinFaults) {
    violation = "a schedule with too few faults";
  }
  return violation;
}

std::string RunApart(const Plan& plan) {
  Slot* slot = MapShared<Slot>(1);
  const Child child = Fork([&] {
    LimitProcessorTime(kMaxSecondsPerSchedule);
    const std::string violation = RunHere(plan, &slot->coverage, nullptr, nullptr);
    if (!violation.empty()) Put(slot, violation);
  });
  int status = 0;
  waitpid(child.pid, &status, 0);
  std::string violation = slot->failed ? slot->message : "";
  if (violation.empty() && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
    violation = LastWords(child.errors, status);
  }
  close(child.errors);
  munmap(slot, sizeof(Slot));
  return violation;
}

CampaignResult RunCampaign(const Campaign& campaign) {
  if (campaign.num_processes == 0) return RunInProcess(campaign);
  return Supervisor(campaign).Run();
}

}  // namespace mirrorsd::sim
