#include "services/cell/signals.h"

#include <csignal>
#include <ctime>
#include <utility>

namespace mirrorsd::cell {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

constexpr absl::Duration kLookInterval = absl::Milliseconds(100);

}  // namespace

void BlockSignals() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void UnblockSignals() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
}

std::optional<int> WaitForSignal(absl::Duration timeout) {
  const sigset_t signals = StopSignals();
  const timespec limit = absl::ToTimespec(timeout);
  const int caught = sigtimedwait(&signals, nullptr, &limit);
  return caught > 0 ? std::optional<int>(caught) : std::nullopt;
}

SignalWatch::SignalWatch(std::function<void(int)> on_signal)
    : thread_([this, on_signal = std::move(on_signal)] {
        while (!stopped_.load()) {
          const std::optional<int> caught = WaitForSignal(kLookInterval);
          if (caught.has_value() && !stopped_.load()) on_signal(*caught);
        }
      }) {}

SignalWatch::~SignalWatch() {
  stopped_ = true;
  thread_.join();
}

}  // namespace mirrorsd::cell
