#include "services/cell/supervisor.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/cell/exit_code.h"
#include "services/cell/signals.h"
#include "services/runtime/clock.h"

namespace mirrorsd::cell {
namespace {

// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void BecomeChild(const std::vector<char*>& arguments, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExitInternal);  // the parent died before that took hold
  setpgid(0, 0);  // Ctrl-C is the parent's; it stops its children in order
  UnblockSignals();
  execv(arguments[0], arguments.data());
  constexpr char kFailed[] = "cannot execute the program of a role\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kFailed, sizeof(kFailed) - 1);
  _exit(kExitUsage);
}

std::string DescribeDeath(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return absl::StrCat("was killed by signal ", WTERMSIG(wait_status));
  }
  return absl::StrCat("ended with exit code ", WEXITSTATUS(wait_status));
}

// Kills a child and whatever it has started: an orphan would hold the terminal and the pipes of this process.
void KillGroup(pid_t pid) {
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL);
}

// Takes notice of a child that has ended; false while it lives. What it left of its group goes first, as long as
// the dead child still holds the group's id.
bool Reap(pid_t pid, int* wait_status) {
  siginfo_t ended{};
  const int options = WEXITED | WNOHANG | WNOWAIT;
  if (waitid(P_PID, static_cast<id_t>(pid), &ended, options) != 0 || ended.si_pid != pid) {
    return false;
  }
  KillGroup(pid);
  return waitpid(pid, wait_status, 0) == pid;
}

}  // namespace

Supervisor::Supervisor(std::vector<ChildSpec> children, SupervisorOptions options,
                       std::function<void(const std::string&)> tell)
    : options_(options), tell_(std::move(tell)) {
  for (ChildSpec& spec : children) children_.push_back(Child{.spec = std::move(spec)});
}

Supervisor::~Supervisor() {
  for (Child& child : children_) {
    if (child.pid != 0) KillGroup(child.pid);
  }
  for (Child& child : children_) {
    if (child.pid != 0) waitpid(child.pid, nullptr, 0);
  }
}

absl::Status Supervisor::Start() {
  for (Child& child : children_) {
    if (absl::Status status = Spawn(&child); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Supervisor::Spawn(Child* child) {
  std::vector<char*> arguments;
  for (std::string& argument : child->spec.arguments) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return absl::InternalError(
        absl::StrCat("cannot start ", child->spec.name, ": ", std::strerror(errno)));
  }
  if (pid == 0) BecomeChild(arguments, parent);
  setpgid(pid, pid);  // by both, so that whoever comes first the group exists
  child->pid = pid;
  child->started_at = runtime::MonotonicNow();
  tell_(absl::StrCat(child->spec.name, " started, pid ", pid));
  return absl::OkStatus();
}

absl::Status Supervisor::NoteDeath(Child* child, int wait_status) {
  const pid_t pid = child->pid;
  const absl::Time now = runtime::MonotonicNow();
  child->pid = 0;
  if (child->stopping) return absl::OkStatus();
  const std::string death = DescribeDeath(wait_status);
  const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0;
  if (code == kExitUsage || code == kExitBadInput) {
    fatal_exit_code_ = code;
    return absl::FailedPreconditionError(absl::StrCat(child->spec.name, " ", death));
  }
  if (now - child->started_at >= options_.steady_after) child->deaths_in_a_row = 0;
  absl::Duration backoff = options_.first_backoff;
  for (int i = 0; i < child->deaths_in_a_row && backoff < options_.max_backoff; ++i) backoff *= 2;
  backoff = std::min(backoff, options_.max_backoff);
  child->deaths_in_a_row += 1;
  child->restart_at = now + backoff;
  tell_(absl::StrCat(child->spec.name, " (pid ", pid, ") ", death, "; restart in ",
                     absl::ToInt64Milliseconds(backoff), " ms"));
  return absl::OkStatus();
}

absl::Status Supervisor::Look() {
  for (Child& child : children_) {
    int wait_status = 0;
    if (child.pid != 0 && Reap(child.pid, &wait_status)) {
      if (absl::Status status = NoteDeath(&child, wait_status); !status.ok()) return status;
    }
    if (child.pid == 0 && !child.stopping && runtime::MonotonicNow() >= child.restart_at) {
      if (absl::Status status = Spawn(&child); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

Supervisor::Child* Supervisor::Find(const std::string& name) {
  for (Child& child : children_) {
    if (child.spec.name == name) return &child;
  }
  return nullptr;
}

pid_t Supervisor::pid(const std::string& name) const {
  for (const Child& child : children_) {
    if (child.spec.name == name) return child.pid;
  }
  return 0;
}

void Supervisor::Stop(const std::string& name, int signal) {
  Child* child = Find(name);
  if (child == nullptr) return;
  child->stopping = true;
  if (child->pid != 0) kill(child->pid, signal);
}

bool Supervisor::WaitForStopped(absl::Duration timeout) {
  const absl::Time deadline = runtime::MonotonicNow() + timeout;
  bool by_themselves = true;
  while (true) {
    bool any = false;
    for (Child& child : children_) {
      if (!child.stopping || child.pid == 0) continue;
      int wait_status = 0;
      if (Reap(child.pid, &wait_status)) {
        child.pid = 0;
        if (wait_status != 0) {
          by_themselves = false;
          tell_(absl::StrCat(child.spec.name, " ", DescribeDeath(wait_status)));
        }
        continue;
      }
      any = true;
      if (runtime::MonotonicNow() >= deadline) {
        by_themselves = false;
        KillGroup(child.pid);
      }
    }
    if (!any) return by_themselves;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace mirrorsd::cell
