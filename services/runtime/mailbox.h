#pragma once
// A bounded queue from many threads to one: the only way into an actor. First in, first out, for ordinary
// and control messages alike, but room is kept that only control messages may use: what must not be lost
// (a cancel, a detach) still fits when ordinary traffic has filled its share. Push never blocks.
//
// Thread rule: pushes and Close from any thread; Take from one.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "services/runtime/clock.h"

namespace mirrorsd::runtime {

template <typename Message>
class Mailbox {
 public:
  // `capacity` messages of any kind, and `control_reserve` more that are control messages.
  Mailbox(size_t capacity, size_t control_reserve)
      : capacity_(capacity), control_capacity_(capacity + control_reserve) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // False, with the message dropped, when the ordinary room is full or the mailbox is closed.
  bool Push(Message message) { return PushUpTo(capacity_, std::move(message)); }

  // As Push, with the reserved room added.
  bool PushControl(Message message) { return PushUpTo(control_capacity_, std::move(message)); }

  // No push succeeds from now on; what is inside can still be taken.
  void Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  enum class Taken { kMessages, kDeadline, kClosed };

  // Waits until there is a message, `deadline` (monotonic; services/runtime/clock.h) has come, or the
  // mailbox was closed and is empty; then swaps all messages into `messages`, which it clears first.
  // A deadline in the past makes it a poll.
  Taken Take(absl::Time deadline, std::vector<Message>* messages) {
    messages->clear();
    std::unique_lock<std::mutex> lock(mutex_);
    while (queue_.empty() && !closed_) {
      const absl::Duration wait = deadline - MonotonicNow();
      if (wait <= absl::ZeroDuration()) return Taken::kDeadline;
      // Long waits are cut so that no arithmetic on time points can overflow.
      changed_.wait_for(lock, absl::ToChronoNanoseconds(std::min(wait, absl::Hours(1))));
    }
    if (queue_.empty()) return Taken::kClosed;
    messages->swap(queue_);
    return Taken::kMessages;
  }

  size_t size() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return queue_.size();
  }

 private:
  bool PushUpTo(size_t limit, Message message) {
    bool was_empty;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (closed_ || queue_.size() >= limit) return false;
      was_empty = queue_.empty();
      queue_.push_back(std::move(message));
    }
    if (was_empty) changed_.notify_one();  // the one taker waits only while it is empty
    return true;
  }

  const size_t capacity_;
  const size_t control_capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Message> queue_;  // guarded by mutex_
  bool closed_ = false;         // guarded by mutex_
};

}  // namespace mirrorsd::runtime
