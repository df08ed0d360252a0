#include "services/journal/frame_ring.h"

#include <algorithm>
#include <cstring>

namespace mirrorsd::journal {

FrameRing::FrameRing(size_t max_events, size_t max_bytes)
    : max_events_(std::max<size_t>(1, max_events)),
      max_bytes_(max_bytes),
      bytes_(new char[max_bytes]) {}

void FrameRing::DropFront() {
  do {
    const Entry front = entries_.front();
    entries_.pop_front();
    begin_ = (begin_ + front.size) % max_bytes_;
    num_bytes_ -= front.size;
    num_events_ -= front.is_event;
  } while (!entries_.empty() && !entries_.front().is_event);
}

void FrameRing::Add(std::string_view frame, bool is_event) {
  if (frame.empty()) {
    while (!entries_.empty()) DropFront();
    return;
  }
  while (!entries_.empty() && !Fits(frame.size())) DropFront();
  if (!Fits(frame.size()) || (entries_.empty() && !is_event)) return;
  const size_t at = (begin_ + num_bytes_) % max_bytes_;
  const size_t first = std::min(frame.size(), max_bytes_ - at);
  std::memcpy(bytes_.get() + at, frame.data(), first);
  std::memcpy(bytes_.get(), frame.data() + first, frame.size() - first);
  num_bytes_ += frame.size();
  num_events_ += is_event;
  entries_.push_back({static_cast<uint32_t>(frame.size()), is_event});
}

void FrameRing::AddEvent(std::string_view frame) {
  if (num_events_ >= max_events_) DropFront();
  ++num_events_added_;
  Add(frame, true);
}

void FrameRing::AddNote(std::string_view frame) { Add(frame, false); }

void FrameRing::AppendTo(std::string* out) const {
  const size_t first = std::min(num_bytes_, max_bytes_ - begin_);
  out->append(bytes_.get() + begin_, first);
  out->append(bytes_.get(), num_bytes_ - first);
}

}  // namespace mirrorsd::journal
