#pragma once
// SIGINT, SIGTERM and SIGUSR1 as values instead of interruptions. BlockSignals comes first in main, before any thread
// is there, so that all threads have them blocked. Thread-safe.

#include <functional>
#include <optional>
#include <thread>

#include "absl/time/time.h"

namespace mirrorsd::cell {

// Blocks SIGINT, SIGTERM and SIGUSR1 for this and all later threads, and ignores SIGPIPE.
void BlockSignals();

// Undoes it in a child before exec; async-signal-safe.
void UnblockSignals();

// The next SIGINT or SIGTERM, or none within `timeout`.
std::optional<int> WaitForSignal(absl::Duration timeout);

// Calls `on_signal` from a thread of its own for each SIGINT and SIGTERM, or for each `only`, until it is
// destroyed.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void(int)> on_signal, int only = 0);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  const int wake_fd_;
  std::thread thread_;
};

// Ends the process at once on a signal, while it lives: for what may take long before there is anything to
// end in order (reading a model). SIGTERM ends with 0, SIGINT with 130.
class ExitOnSignal {
 public:
  ExitOnSignal();

 private:
  SignalWatch watch_;
};

}  // namespace mirrorsd::cell
