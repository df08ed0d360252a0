#pragma once
// Child processes that are restarted with backoff when they die, and that die with this process. A child that
// ends with a usage or a model error (exit codes 2 and 3) would do so again: that is the end of all.
// Not thread-safe: one thread, the one that outlives the children (they die with the thread that forked).

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mirrorsd::cell {

struct ChildSpec {
  std::string name;                    // "draft-worker"
  std::vector<std::string> arguments;  // the program's path first
};

struct SupervisorOptions {
  absl::Duration first_backoff = absl::Milliseconds(100);  // doubled with each death in a row
  absl::Duration max_backoff = absl::Seconds(5);
  absl::Duration steady_after = absl::Seconds(10);  // a life of this length forgets earlier deaths
};

class Supervisor {
 public:
  // `tell` gets one line for people for each start and death.
  Supervisor(std::vector<ChildSpec> children, SupervisorOptions options,
             std::function<void(const std::string&)> tell);
  ~Supervisor();  // kills what still lives
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Starts every child.
  // Errors:  INTERNAL where a process cannot be made
  absl::Status Start();

  // Looks after the dead: notes them, restarts those whose backoff is over. Call often.
  // Errors:  a child that ended for good; its exit code is fatal_exit_code()
  absl::Status Look();
  int fatal_exit_code() const { return fatal_exit_code_; }

  // The process id; 0 while it is not running.
  pid_t pid(const std::string& name) const;

  // Sends `signal` to one child and does not restart it any more.
  void Stop(const std::string& name, int signal);
  // Waits for the stopped ones; after `timeout` they are killed. Returns whether all ended well by themselves.
  bool WaitForStopped(absl::Duration timeout);

 private:
  struct Child {
    ChildSpec spec;
    pid_t pid = 0;
    absl::Time started_at;
    absl::Time restart_at;
    int deaths_in_a_row = 0;
    bool stopping = false;
  };

  absl::Status Spawn(Child* child);
  absl::Status NoteDeath(Child* child, int wait_status);
  Child* Find(const std::string& name);

  std::vector<Child> children_;
  const SupervisorOptions options_;
  const std::function<void(const std::string&)> tell_;
  int fatal_exit_code_ = 0;
};

}  // namespace mirrorsd::cell
