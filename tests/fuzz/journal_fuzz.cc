// Bytes as a journal's file: read whole, repeated on a real core, told as a story and written as a scenario.
// Frames carry checksums that random bytes never meet, so each input is tried twice: as a file, and as
// records to be framed, each behind its length as two bytes; these are mutated by their schema. What reads
// must end in a status, not in a failed CHECK; what repeats must repeat the same again.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/check.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "services/journal/frame.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"
#include "services/journal/scenario.h"
#include "services/journal/story.h"
#include "tests/fuzz/proto_mutator.h"

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
  Story story(reader->head(), "r1");
  Scenario scenario(reader->head().life, 1, 1000);
  const auto report = Replay(reader.get(), [&](const ReplayStep& step) {
    story.See(step.number, *step.recorded);
    for (const scheduler::Action& action : step.actions) {
      internal::v1::JournalNote note;
      if (wire::WriteNote(action, &note)) story.See(note);
    }
    scenario.See(step);
  });
  reader->EndingText();
  scenario.Text();
  if (!report.ok() || bytes.size() > 4096) return;
  const auto again = Replay(ReaderOf(bytes).get(), nullptr);
  CHECK(again.ok() && again->num_events == report->num_events &&
        again->num_actions == report->num_actions && again->difference == report->difference);
}

std::vector<std::string> ReadRecords(const uint8_t* data, size_t size) {
  std::vector<std::string> records;
  while (size >= 2) {
    const size_t length = std::min<size_t>(size - 2, data[0] | data[1] << 8);
    records.emplace_back(reinterpret_cast<const char*>(data) + 2, length);
    data += 2 + length;
    size -= 2 + length;
  }
  return records;
}

std::string WriteRecords(const std::vector<std::string>& records) {
  std::string out;
  for (const std::string& record : records) {
    const size_t length = std::min<size_t>(record.size(), 65535);
    out += {static_cast<char>(length & 255), static_cast<char>(length >> 8)};
    out.append(record, 0, length);
  }
  return out;
}

std::string Framed(const std::vector<std::string>& records) {
  std::string file(kMagic), frame;
  for (const std::string& bytes : records) {
    internal::v1::JournalRecord record;
    if (record.ParseFromString(bytes) && MakeFrame(record, &frame)) file += frame;
  }
  return file;
}

// Changes one record by its schema, or drops, doubles or moves one.
void Mutate(std::vector<std::string>* records, fuzz::Random* random) {
  if (records->empty()) records->emplace_back();
  const size_t at = (*random)() % records->size();
  const size_t other = (*random)() % records->size();
  switch ((*random)() % 8) {
    case 0:
      records->erase(records->begin() + static_cast<std::ptrdiff_t>(at));
      return;
    case 1: {
      const std::string copy = (*records)[at];
      records->insert(records->begin() + static_cast<std::ptrdiff_t>(other), copy);
      return;
    }
    case 2:
      std::swap((*records)[at], (*records)[other]);
      return;
    default: {
      internal::v1::JournalRecord record;
      if (!record.ParseFromString((*records)[at])) record.Clear();
      fuzz::MutateMessage(&record, random);
      (*records)[at] = record.SerializeAsString();
    }
  }
}

}  // namespace
}  // namespace mirrorsd::journal

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  using namespace mirrorsd;
  fuzz::Random random(seed);
  if (random() % 8 == 0) return fuzz::MutateBytes(data, size, max_size);
  std::vector<std::string> records = journal::ReadRecords(data, size);
  journal::Mutate(&records, &random);
  const std::string out = journal::WriteRecords(records);
  if (out.size() > max_size) return fuzz::MutateBytes(data, size, max_size);
  std::memcpy(data, out.data(), out.size());
  return out.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::journal;
  TryFile(std::string(reinterpret_cast<const char*>(data), size));
  TryFile(Framed(ReadRecords(data, size)));
  return 0;
}
