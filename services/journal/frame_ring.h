#pragma once
// The last frames of a journal, in memory, bounded by events and by bytes. What falls out falls out at the
// front, whole events with the notes behind them. Memory is touched as it is needed. One thread at a time.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

namespace mirrorsd::journal {

class FrameRing {
 public:
  FrameRing(size_t max_events, size_t max_bytes);

  // A frame that alone is larger than the ring empties it, and so does an empty one, which stands for an
  // event that no frame can hold.
  void AddEvent(std::string_view frame);
  // Belongs to the event before; dropped if that is not there any more.
  void AddNote(std::string_view frame);

  uint64_t num_events_added() const { return num_events_added_; }
  size_t num_events() const { return num_events_; }
  size_t num_bytes() const { return num_bytes_; }
  // Of the first event inside, where the first ever added is 1.
  uint64_t first_event() const { return num_events_added_ - num_events_ + 1; }

  void AppendTo(std::string* out) const;

 private:
  struct Entry {
    uint32_t size = 0;
    bool is_event = false;
  };

  void Add(std::string_view frame, bool is_event);
  void DropFront();
  bool Fits(size_t size) const { return num_bytes_ + size <= max_bytes_; }

  const size_t max_events_;
  const size_t max_bytes_;
  std::unique_ptr<char[]> bytes_;
  size_t begin_ = 0;  // of the first frame, in bytes_, which is a circle
  size_t num_bytes_ = 0;
  std::deque<Entry> entries_;
  size_t num_events_ = 0;
  uint64_t num_events_added_ = 0;
};

}  // namespace mirrorsd::journal
