#pragma once
// The file that a journal goes to. Who appends never waits for the disk: a thread writes what has gathered,
// at short intervals. Where the disk is full, fails, or falls too far behind, the file is ended with a
// marked record at the last whole frame, one line is logged, and the process lives on. What was appended
// survives the process once it was written (the interval later), not the host.
// Thread rule: Append and Close from one thread; FlushNow from any.

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mirrorsd::journal {

class JournalFile {
 public:
  // Makes `path`, or where that exists already `path`.1, `path`.2, ...: a life is never overwritten, and a
  // restarted process finds a place without help. Readable by the owner alone: prompts are in it.
  // Errors:  BAD_FILE where none of these can be made
  static absl::StatusOr<std::unique_ptr<JournalFile>> Create(const std::string& path,
                                                             absl::Duration flush_interval);
  ~JournalFile();  // closes
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;

  // Takes whole frames. False, for good, once the file has failed.
  bool Append(std::string_view frames);

  // Writes what waits, at once; gives up after `patience`. For a process that is about to die.
  void FlushNow(absl::Duration patience);

  // Writes what waits and closes. Idempotent.
  void Close();

  const std::string& path() const { return path_; }

 private:
  JournalFile(std::string path, int fd, absl::Duration flush_interval);

  void Run();
  void WritePending();  // with write_mutex_
  void Fail(const std::string& why);

  const std::string path_;
  const absl::Duration flush_interval_;

  std::timed_mutex write_mutex_;  // of the file itself; taken before mutex_
  int fd_;                        // guarded by write_mutex_
  uint64_t good_bytes_ = 0;       // guarded by write_mutex_: the file's length, whole frames
  std::string writing_;           // guarded by write_mutex_

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string pending_;       // guarded by mutex_
  bool closing_ = false;      // guarded by mutex_
  bool too_slow_ = false;     // guarded by mutex_
  bool failed_ = false;       // guarded by mutex_

  std::thread thread_;
};

// Makes the first of `path`, `path`.1, ... that is not there yet, for the owner alone, and opens it.
// Errors:  BAD_FILE
absl::StatusOr<std::pair<int, std::string>> MakeNewFile(const std::string& path);

// All of it, retrying; false on an error, which errno tells.
bool WriteAll(int fd, std::string_view bytes);

}  // namespace mirrorsd::journal
