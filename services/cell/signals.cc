#include "services/cell/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/check.h"
#include "services/cell/exit_code.h"

namespace mirrorsd::cell {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

sigset_t BlockedSignals() {
  sigset_t signals = StopSignals();
  sigaddset(&signals, SIGUSR1);
  return signals;
}

}  // namespace

void BlockSignals() {
  const sigset_t signals = BlockedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void UnblockSignals() {
  const sigset_t signals = BlockedSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
}

std::optional<int> WaitForSignal(absl::Duration timeout) {
  const sigset_t signals = StopSignals();
  const timespec limit = absl::ToTimespec(timeout);
  const int caught = sigtimedwait(&signals, nullptr, &limit);
  return caught > 0 ? std::optional<int>(caught) : std::nullopt;
}

SignalWatch::SignalWatch(std::function<void(int)> on_signal, int only)
    : wake_fd_(eventfd(0, EFD_CLOEXEC)) {
  sigset_t signals = StopSignals();
  if (only != 0) {
    sigemptyset(&signals);
    sigaddset(&signals, only);
  }
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  CHECK(wake_fd_ >= 0 && signal_fd >= 0) << std::strerror(errno);
  thread_ = std::thread([this, signal_fd, on_signal = std::move(on_signal)] {
    pollfd watched[] = {{.fd = signal_fd, .events = POLLIN}, {.fd = wake_fd_, .events = POLLIN}};
    while (true) {
      if (poll(watched, 2, -1) < 0 && errno != EINTR) break;
      if ((watched[1].revents & POLLIN) != 0) break;
      signalfd_siginfo caught;
      if ((watched[0].revents & POLLIN) == 0) continue;
      if (read(signal_fd, &caught, sizeof(caught)) != sizeof(caught)) continue;
      on_signal(static_cast<int>(caught.ssi_signo));
    }
    close(signal_fd);
  });
}

SignalWatch::~SignalWatch() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
  thread_.join();
  close(wake_fd_);
}

ExitOnSignal::ExitOnSignal()
    : watch_([](int caught) { _exit(caught == SIGINT ? kExitInterrupted : kExitDone); }) {}

}  // namespace mirrorsd::cell
