#pragma once
// Records a scheduler's life as its core sees it: to a file, if one is wanted, and always to a ring of the
// last events in memory, which is dumped when a CHECK fails. The owner of the core calls Record before each
// Step and RecordActions behind it. Nothing here changes what the core does, and nothing waits for a disk.
// Thread rule: Record, RecordActions and Stop from the owner's thread; DumpRing from any.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/check.h"
#include "scheduler/core/core.h"
#include "scheduler/core/events.h"

namespace mirrorsd::journal {

struct RecorderOptions {
  std::string path;  // of the file; empty: the ring alone. One that exists gets a number (journal_file.h)
  int64_t limit_bytes = int64_t{1} << 30;  // of the file, whose last record then says so
  absl::Duration flush_interval = absl::Milliseconds(50);
  uint64_t checkpoint_events = 1024;  // between digests of the actions

  size_t ring_events = 65536;
  size_t ring_bytes = 32 << 20;
  std::string ring_folder;  // where the ring is dumped; empty: TMPDIR, or /tmp

  std::string version;  // of the program
};

class Recorder {
 public:
  // `config` is the core's.
  // Errors:  BAD_FILE
  static absl::StatusOr<std::unique_ptr<Recorder>> Create(const scheduler::CoreConfig& config,
                                                          RecorderOptions options);
  ~Recorder();  // stops
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Units:   `now` is a whole number of nanoseconds
  void Record(absl::Time now, const scheduler::Event& event);
  // What the core answered to that event.
  void RecordActions(absl::Span<const scheduler::Action> actions);

  // The last checkpoint and the end, written. Idempotent; nothing is recorded after it.
  void Stop();

  // Writes the ring to a new file and returns its path.
  // Errors:  BAD_FILE; UNAVAILABLE where the recording thread does not let go of the ring
  absl::StatusOr<std::string> DumpRing(const std::string& reason);

  // The file's path; empty if there is none.
  std::string path() const;

 private:
  class State;
  explicit Recorder(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with the last words of a failing CHECK
  LastWords last_words_;
};

}  // namespace mirrorsd::journal
