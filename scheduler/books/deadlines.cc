#include "scheduler/books/deadlines.h"

namespace mirrorsd::scheduler {

void Deadlines::Set(Wait wait, uint64_t id, absl::Time when) {
  Clear(wait, id);
  if (when == absl::InfiniteFuture()) return;
  ordered_.emplace(when, wait, id);
  when_[Key(wait, id)] = when;
}

void Deadlines::Clear(Wait wait, uint64_t id) {
  const auto found = when_.find(Key(wait, id));
  if (found == when_.end()) return;
  ordered_.erase({found->second, wait, id});
  when_.erase(found);
}

absl::Time Deadlines::Next() const {
  return ordered_.empty() ? absl::InfiniteFuture() : std::get<0>(*ordered_.begin());
}

std::optional<Deadlines::Key> Deadlines::PopDue(absl::Time now) {
  if (ordered_.empty() || std::get<0>(*ordered_.begin()) > now) return std::nullopt;
  const auto [when, wait, id] = *ordered_.begin();
  ordered_.erase(ordered_.begin());
  const Key key(wait, id);
  when_.erase(key);
  return key;
}

}  // namespace mirrorsd::scheduler
