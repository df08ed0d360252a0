#pragma once
// Reads a journal's file, which may be anything: every record is bounded and checked before it is believed.
// What a crash cut off is no error: everything before it is used. Not a repetition (replay.h). One thread.

#include <cstdint>
#include <istream>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "services/journal/frame.h"
#include "services/wire/journal/journal_wire.h"

namespace mirrorsd::journal {

// What a file is of.
struct JournalHead {
  wire::RecordedLife life;
  // Of a ring: the last events of the life, which cannot be repeated.
  bool is_ring = false;
  uint64_t first_event = 1;  // number of the first event
  std::string ring_reason;
  internal::v1::JournalRing ring;
};

struct Checkpoint {
  uint64_t num_events = 0;
  uint64_t num_actions = 0;
  std::string actions_sha256;
};

using JournalEntry = std::variant<wire::RecordedEvent, internal::v1::JournalNote, Checkpoint>;

// How a file ends.
enum class Ending : uint8_t {
  kStopped = 0,  // the scheduler stopped
  kSizeLimit,    // a marked end: the life went on, unrecorded
  kDisk,         // likewise
  kCut,          // behind a whole record, without an end: the process died
  kTorn,         // within a record: it died while writing
  kDamaged,      // a checksum is wrong, or something follows the end
};

class JournalReader {
 public:
  // Errors:  MISSING_FILE, BAD_FILE; another schema_revision is told by both numbers
  static absl::StatusOr<std::unique_ptr<JournalReader>> Open(const std::string& path);
  // `name` is for messages.
  static absl::StatusOr<std::unique_ptr<JournalReader>> Read(std::unique_ptr<std::istream> in,
                                                             const std::string& name);

  const JournalHead& head() const { return head_; }

  // Gives the next entry; false at the end, which ending() then describes.
  // Errors:  BAD_FILE for a whole record that makes no sense; what was read before is good
  absl::StatusOr<bool> Next(JournalEntry* entry);

  // Of the event last read.
  uint64_t event_number() const { return next_event_ - 1; }
  // Once Next() gave false.
  Ending ending() const { return ending_; }
  // A sentence about the end, for people; empty for kStopped.
  std::string EndingText() const;

 private:
  JournalReader(std::unique_ptr<std::istream> in, std::string name);

  absl::Status ReadHead();
  absl::Status Bad(const std::string& what) const;
  bool EndAt(Ending ending);
  absl::StatusOr<bool> Finish(const internal::v1::JournalEnd& end);

  const std::unique_ptr<std::istream> in_;
  const std::string name_;
  FrameReader frames_;
  JournalHead head_;
  uint64_t next_event_ = 1;
  Ending ending_ = Ending::kCut;
  std::string end_message_;
  std::string bytes_;  // scratch
};

}  // namespace mirrorsd::journal
