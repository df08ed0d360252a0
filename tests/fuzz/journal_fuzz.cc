// Bytes as a journal's file: read whole, repeated on a real core, told as a story and written as a scenario.
// Frames carry checksums that random bytes never meet, so each input is tried twice: as a file, and as
// records to be framed, each behind its length as two bytes. What reads must end in a status, not in a
// failed CHECK; what repeats must repeat the same again.

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>

#include "google/protobuf/stubs/logging.h"

#include "common/check.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "services/journal/frame.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"
#include "services/journal/scenario.h"
#include "services/journal/story.h"

namespace mirrorsd::journal {
namespace {

std::unique_ptr<JournalReader> ReaderOf(const std::string& bytes) {
  auto reader = JournalReader::Read(std::make_unique<std::istringstream>(bytes), "fuzz");
  return reader.ok() ? *std::move(reader) : nullptr;
}

void TryFile(const std::string& bytes) {
  auto reader = ReaderOf(bytes);
  if (reader == nullptr) return;
  if (reader->head().is_ring) {
    TellStory(reader.get(), "r1").IgnoreError();
    reader->EndingText();
    return;
  }
  const auto report = Replay(reader.get(), nullptr);
  const std::string ending = reader->EndingText();
  TellStory(ReaderOf(bytes).get(), "r1").IgnoreError();
  WriteScenario(ReaderOf(bytes).get(), 1, 1000).IgnoreError();
  if (!report.ok()) return;
  const auto again = Replay(ReaderOf(bytes).get(), nullptr);
  CHECK(again.ok() && again->num_events == report->num_events &&
        again->num_actions == report->num_actions && again->difference == report->difference);
}

// The records between two-byte lengths, framed as a file.
std::string Framed(const uint8_t* data, size_t size) {
  std::string file(kMagic), frame;
  while (size >= 2) {
    const size_t length = std::min<size_t>(size - 2, data[0] | data[1] << 8);
    internal::v1::JournalRecord record;
    if (record.ParseFromArray(data + 2, static_cast<int>(length)) && MakeFrame(record, &frame)) {
      file += frame;
    }
    data += 2 + length;
    size -= 2 + length;
  }
  return file;
}

}  // namespace
}  // namespace mirrorsd::journal

// Strings that are no UTF-8 would fill the log.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::journal;
  TryFile(std::string(reinterpret_cast<const char*>(data), size));
  TryFile(Framed(data, size));
  return 0;
}
