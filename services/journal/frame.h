#pragma once
// How a journal's records lie in a file: one line that names the format, then frames of
//   4 bytes  length of the record below 2^24, and in the highest byte a check of that length
//   4 bytes  CRC-32 (zlib's) of the four bytes before and the record
//   n bytes  the record, a serialized JournalRecord
// little endian. What a crash cut off at the end is told from what was damaged. Not the meaning of records
// (reader.h). One thread each.

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>

#include "google/protobuf/message_lite.h"

namespace mirrorsd::journal {

inline constexpr std::string_view kMagic = "mirrorsd journal 1\n";
inline constexpr size_t kFrameHeadBytes = 8;
inline constexpr size_t kMaxRecordBytes = (1u << 24) - 1;

// Replaces `frame` by the record's frame. False, with `frame` empty, if the record is too large.
bool MakeFrame(const google::protobuf::MessageLite& record, std::string* frame);

class FrameReader {
 public:
  // `in` outlives it.
  explicit FrameReader(std::istream* in) : in_(in) {}

  // Whether the stream begins as a journal does. Comes first.
  bool ReadMagic();

  enum class Result {
    kFrame,
    kEnd,      // the stream ends behind a whole frame
    kTorn,     // the stream ends within a frame
    kDamaged,  // a checksum is wrong
  };
  Result Read(std::string* record);

  // Where the frame last read, or tried, begins.
  uint64_t frame_offset() const { return frame_offset_; }
  // Bytes read so far.
  uint64_t offset() const { return offset_; }

 private:
  size_t ReadUpTo(size_t num_bytes, std::string* out);

  std::istream* const in_;
  uint64_t offset_ = 0;
  uint64_t frame_offset_ = 0;
};

}  // namespace mirrorsd::journal
