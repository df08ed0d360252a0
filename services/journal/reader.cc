#include "services/journal/reader.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "google/protobuf/stubs/logging.h"

namespace mirrorsd::journal {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr int kMaxDigestBytes = 64;

}  // namespace

JournalReader::JournalReader(std::unique_ptr<std::istream> in, std::string name)
    : in_(std::move(in)), name_(std::move(name)), frames_(in_.get()) {}

absl::StatusOr<std::unique_ptr<JournalReader>> JournalReader::Open(const std::string& path) {
  auto in = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (!in->is_open()) return MissingFile(path, "cannot be opened");
  return Read(std::move(in), path);
}

absl::StatusOr<std::unique_ptr<JournalReader>> JournalReader::Read(
    std::unique_ptr<std::istream> in, const std::string& name) {
  std::unique_ptr<JournalReader> reader(new JournalReader(std::move(in), name));
  if (absl::Status status = reader->ReadHead(); !status.ok()) return status;
  return reader;
}

absl::Status JournalReader::Bad(const std::string& what) const {
  return BadFile(name_, absl::StrCat(what, ", at byte ", frames_.frame_offset()));
}

absl::Status JournalReader::ReadHead() {
  if (!frames_.ReadMagic()) return BadFile(name_, "is no journal of this format");
  switch (frames_.Read(&bytes_)) {
    case FrameReader::Result::kFrame:
      break;
    case FrameReader::Result::kEnd:
      return BadFile(name_, "holds no record: the process died as it began");
    case FrameReader::Result::kTorn:
      return BadFile(name_, "ends within its first record");
    case FrameReader::Result::kDamaged:
      return Bad("the checksum of the first record is wrong");
  }
  google::protobuf::LogSilencer silence;
  pb::JournalRecord record;
  if (!record.ParseFromString(bytes_)) return Bad("the first record is none");
  if (!record.has_life() && !record.has_ring()) {
    return Bad("the first record is neither a life's nor a ring's");
  }
  head_.is_ring = record.has_ring();
  auto life = wire::Parse(head_.is_ring ? record.ring().life() : record.life());
  if (!life.ok()) return Bad(std::string(life.status().message()));
  head_.life = *std::move(life);
  if (!head_.is_ring) return absl::OkStatus();
  if (record.ring().first_event() < 1) return Bad("ring.first_event is 0");
  head_.first_event = next_event_ = record.ring().first_event();
  head_.ring_reason = record.ring().reason();
  head_.ring = std::move(*record.mutable_ring());
  return absl::OkStatus();
}

bool JournalReader::EndAt(Ending ending) {
  ending_ = ending;
  return false;
}

// Nothing comes behind the end.
absl::StatusOr<bool> JournalReader::Finish(const pb::JournalEnd& end) {
  end_message_ = end.message().substr(0, 1024);
  if (frames_.Read(&bytes_) != FrameReader::Result::kEnd) return EndAt(Ending::kDamaged);
  switch (end.reason()) {
    case pb::JOURNAL_END_REASON_STOPPED:
      return EndAt(Ending::kStopped);
    case pb::JOURNAL_END_REASON_SIZE_LIMIT:
      return EndAt(Ending::kSizeLimit);
    case pb::JOURNAL_END_REASON_DISK:
      return EndAt(Ending::kDisk);
    default:
      return Bad("end.reason is unknown");
  }
}

absl::StatusOr<bool> JournalReader::Next(JournalEntry* entry) {
  switch (frames_.Read(&bytes_)) {
    case FrameReader::Result::kFrame:
      break;
    case FrameReader::Result::kEnd:
      return EndAt(Ending::kCut);
    case FrameReader::Result::kTorn:
      return EndAt(Ending::kTorn);
    case FrameReader::Result::kDamaged:
      return EndAt(Ending::kDamaged);
  }
  google::protobuf::LogSilencer silence;
  pb::JournalRecord record;
  if (!record.ParseFromString(bytes_)) return Bad("a record is none");
  switch (record.record_case()) {
    case pb::JournalRecord::kEvent: {
      auto event = wire::Parse(record.event());
      if (!event.ok()) {
        return Bad(absl::StrCat("event ", next_event_, ": ", event.status().message()));
      }
      ++next_event_;
      *entry = *std::move(event);
      return true;
    }
    case pb::JournalRecord::kNote:
      if (!head_.is_ring) return Bad("a note in a whole life");
      *entry = std::move(*record.mutable_note());
      return true;
    case pb::JournalRecord::kCheckpoint: {
      const pb::JournalCheckpoint& checkpoint = record.checkpoint();
      if (checkpoint.actions_sha256().size() > kMaxDigestBytes) return Bad("a digest is too long");
      *entry = Checkpoint{checkpoint.num_events(), checkpoint.num_actions(),
                          checkpoint.actions_sha256()};
      return true;
    }
    case pb::JournalRecord::kEnd:
      return Finish(record.end());
    case pb::JournalRecord::kLife:
    case pb::JournalRecord::kRing:
      return Bad("a second beginning");
    case pb::JournalRecord::RECORD_NOT_SET:
      break;
  }
  return Bad("an unknown record");
}

std::string JournalReader::EndingText() const {
  const auto why = [this] { return end_message_.empty() ? "" : absl::StrCat(": ", end_message_); };
  switch (ending_) {
    case Ending::kStopped:
      return "";
    case Ending::kSizeLimit:
      return absl::StrCat("the record ends before the life did", why());
    case Ending::kDisk:
      return absl::StrCat("the record ends before the life did, at the disk", why());
    case Ending::kCut:
      return head_.is_ring ? "" : "there is no end record: the process died, or still runs";
    case Ending::kTorn:
      return absl::StrCat("the last ", frames_.offset() - frames_.frame_offset(),
                          " bytes are part of a record: the process died, or still runs");
    case Ending::kDamaged:
      return absl::StrCat("the file is damaged at byte ", frames_.frame_offset(),
                          "; what follows cannot be read");
  }
  return "";
}

}  // namespace mirrorsd::journal
