#pragma once
// An actor: one thread, one mailbox, one state that only this thread touches. It takes messages in order
// and, when the deadline that its behaviour names has come, is told the time. Not a scheduler of tasks.
//
// Thread rule: Push, PushControl and Stop from any thread, Stop not from the actor's own; the behaviour's
// functions run on the actor's thread.

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>

#include "absl/time/time.h"
#include "services/runtime/clock.h"
#include "services/runtime/mailbox.h"

namespace mirrorsd::runtime {

template <typename Message>
struct Behaviour {
  std::function<void(Message&&)> on_message;
  // When on_time is to be called next (monotonic). InfinitePast: as soon as the mailbox has been looked
  // at; InfiniteFuture: only messages wake it. Asked again after every call of the other two.
  std::function<absl::Time()> next_deadline;
  std::function<void(absl::Time now)> on_time;
  std::function<void()> on_stop;  // last, on the actor's thread; may be empty
};

template <typename Message>
class Actor {
 public:
  Actor(std::string name, size_t capacity, size_t control_reserve)
      : name_(std::move(name)), mailbox_(capacity, control_reserve) {}
  ~Actor() { Stop(); }
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  // Messages pushed before Start wait.
  void Start(Behaviour<Message> behaviour) {
    behaviour_ = std::move(behaviour);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
      Run();
    });
  }

  // Takes what is in the mailbox, calls on_stop, ends the thread. Idempotent.
  void Stop() {
    mailbox_.Close();
    if (thread_.joinable()) thread_.join();
  }

  bool Push(Message message) { return mailbox_.Push(std::move(message)); }
  bool PushControl(Message message) { return mailbox_.PushControl(std::move(message)); }
  size_t mailbox_size() const { return mailbox_.size(); }

 private:
  void Run() {
    std::vector<Message> messages;
    while (true) {
      const absl::Time deadline = behaviour_.next_deadline();
      const auto taken = mailbox_.Take(deadline, &messages);
      if (taken == Mailbox<Message>::Taken::kClosed) break;
      for (Message& message : messages) behaviour_.on_message(std::move(message));
      // A full mailbox must not starve the clock, nor the clock the mailbox.
      const absl::Time now = MonotonicNow();
      if (behaviour_.next_deadline() <= now) behaviour_.on_time(now);
    }
    if (behaviour_.on_stop) behaviour_.on_stop();
  }

  const std::string name_;
  Mailbox<Message> mailbox_;
  Behaviour<Message> behaviour_;
  std::thread thread_;
};

}  // namespace mirrorsd::runtime
