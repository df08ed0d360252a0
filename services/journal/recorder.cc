#include "services/journal/recorder.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/check.h"
#include "common/error.h"
#include "google/protobuf/arena.h"
#include "services/journal/action_digest.h"
#include "services/journal/alive_index.h"
#include "services/journal/frame.h"
#include "services/journal/frame_ring.h"
#include "services/journal/journal_file.h"
#include "services/telemetry/log.h"
#include "services/wire/journal/journal_wire.h"

namespace mirrorsd::journal {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr int64_t kEndReserveBytes = 4096;  // for the last checkpoint and the end
constexpr absl::Duration kLastPatience = absl::Seconds(2);

pb::JournalLife DescribeLife(const scheduler::CoreConfig& config, const std::string& version) {
  wire::RecordedLife life;
  life.build.version = version;
  life.build.compiler = __VERSION__;
  life.started = absl::Now();
  life.config = config;
  for (const SpeculationPolicy& policy : config.policies) {
    life.policies.push_back({policy.name, policy.mode});
  }
  pb::JournalLife message;
  wire::Write(life, &message);
  return message;
}

std::string FolderOr(const std::string& folder) {
  if (!folder.empty()) return folder;
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr && *temporary != 0 ? temporary : "/tmp";
}

// One record at a time, in memory that is used again.
class RecordMaker {
 public:
  // `write` fills the record; returns its frame, empty if it is too large.
  template <typename WriteRecord>
  const std::string& Frame(const WriteRecord& write) {
    google::protobuf::ArenaOptions options;
    options.initial_block = block_;
    options.initial_block_size = sizeof(block_);
    google::protobuf::Arena arena(options);
    auto* record = google::protobuf::Arena::CreateMessage<pb::JournalRecord>(&arena);
    frame_.clear();
    if (write(record)) MakeFrame(*record, &frame_);
    return frame_;
  }

 private:
  alignas(8) char block_[4096];
  std::string frame_;
};

}  // namespace

class Recorder::State {
 public:
  State(pb::JournalLife life, RecorderOptions options, std::unique_ptr<JournalFile> file)
      : options_(std::move(options)),
        life_(std::move(life)),
        file_(std::move(file)),
        recording_(file_ != nullptr),
        ring_(options_.ring_events, options_.ring_bytes) {
    const std::string& frame = maker_.Frame([&](pb::JournalRecord* record) {
      *record->mutable_life() = life_;
      return true;
    });
    if (recording_) AppendToFile(frame);
  }

  // An event that is too large for a frame ends the file: a life with a gap cannot be repeated.
  void Record(absl::Time now, const scheduler::Event& event) {
    const std::string& frame = maker_.Frame([&](pb::JournalRecord* record) {
      wire::Write(now, event, record->mutable_event());
      return true;
    });
    {
      std::lock_guard<std::mutex> lock(mutex_);
      alive_.Watch(event);
      ring_.AddEvent(frame);
    }
    if (!recording_) return;
    const int64_t room = options_.limit_bytes - file_bytes_ - kEndReserveBytes;
    if (frame.empty() || static_cast<int64_t>(frame.size()) > room) {
      return EndFile(pb::JOURNAL_END_REASON_SIZE_LIMIT,
                     frame.empty() ? "an event is larger than a record may be" : "size limit reached");
    }
    AppendToFile(frame);
    ++num_events_;
  }

  void RecordActions(absl::Span<const scheduler::Action> actions) {
    for (const scheduler::Action& action : actions) {
      const std::string& frame = maker_.Frame([&](pb::JournalRecord* record) {
        return wire::WriteNote(action, record->mutable_note());
      });
      if (recording_) digest_.Add(action);
      if (frame.empty()) continue;
      std::lock_guard<std::mutex> lock(mutex_);
      alive_.Watch(action);
      ring_.AddNote(frame);
    }
    if (recording_ && num_events_ % options_.checkpoint_events == 0) AppendCheckpoint();
  }

  void Stop() {
    if (recording_) EndFile(pb::JOURNAL_END_REASON_STOPPED, "");
    if (file_ != nullptr) file_->Close();
  }

  absl::StatusOr<std::string> DumpRing(const std::string& reason) {
    pb::JournalRecord head;
    std::string frame;
    std::string bytes(kMagic);
    {
      // The thread that records holds it for an instant and fails no CHECK meanwhile, so whoever comes
      // here, from a failed CHECK or not, does not hold it.
      std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
      const absl::Time give_up = absl::Now() + kLastPatience;
      while (!lock.try_lock()) {
        if (absl::Now() > give_up) return Unavailable("RING_BUSY", "the ring cannot be had");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      pb::JournalRing* ring = head.mutable_ring();
      *ring->mutable_life() = life_;
      ring->set_first_event(ring_.first_event());
      ring->set_reason(reason);
      alive_.Write(ring);
      if (!MakeFrame(head, &frame)) {  // very many requests: the events are worth more
        ring->clear_alive();
        MakeFrame(head, &frame);
      }
      bytes += frame;
      ring_.AppendTo(&bytes);
    }
    auto made = MakeNewFile(
        absl::StrCat(FolderOr(options_.ring_folder), "/mirrorsd-ring-", getpid(), ".journal"));
    if (!made.ok()) return made.status();
    const bool written = WriteAll(made->first, bytes);
    close(made->first);
    if (!written) return BadFile(made->second, "cannot be written");
    return made->second;
  }

  // From the thread whose CHECK failed, whichever that is.
  void SayLastWords() {
    if (file_ != nullptr) file_->FlushNow(kLastPatience);
    const auto path = DumpRing("a CHECK failed");
    if (path.ok()) {
      std::fprintf(stderr, "the last events of the scheduler are in %s\n", path->c_str());
    } else {
      std::fprintf(stderr, "the last events of the scheduler are lost: %s\n",
                   std::string(path.status().message()).c_str());
    }
  }

  std::string path() const { return file_ != nullptr ? file_->path() : ""; }

 private:
  void AppendToFile(const std::string& frame) {
    file_bytes_ += static_cast<int64_t>(frame.size());
    recording_ = file_->Append(frame);
  }

  void AppendCheckpoint() {
    AppendToFile(maker_.Frame([&](pb::JournalRecord* record) {
      pb::JournalCheckpoint* checkpoint = record->mutable_checkpoint();
      checkpoint->set_num_events(num_events_);
      checkpoint->set_num_actions(digest_.num_actions());
      checkpoint->set_actions_sha256(digest_.Bytes());
      return true;
    }));
  }

  void EndFile(pb::JournalEndReason reason, const std::string& message) {
    AppendCheckpoint();
    if (recording_) {
      AppendToFile(maker_.Frame([&](pb::JournalRecord* record) {
        record->mutable_end()->set_reason(reason);
        record->mutable_end()->set_message(message);
        return true;
      }));
    }
    recording_ = false;
    if (reason == pb::JOURNAL_END_REASON_STOPPED) return;
    telemetry::LogWarning("journal", "recording has stopped; the scheduler goes on",
                          {{"file", file_->path()}, {"reason", message}, {"bytes", file_bytes_},
                           {"events", num_events_}});
  }

  const RecorderOptions options_;
  const pb::JournalLife life_;
  const std::unique_ptr<JournalFile> file_;  // null: the ring alone

  // The owner's thread.
  RecordMaker maker_;
  bool recording_;  // to the file
  int64_t file_bytes_ = static_cast<int64_t>(kMagic.size());
  uint64_t num_events_ = 0;  // in the file
  ActionDigest digest_;

  std::mutex mutex_;
  FrameRing ring_;    // guarded by mutex_
  AliveIndex alive_;  // guarded by mutex_
};

Recorder::Recorder(std::shared_ptr<State> state)
    : state_(std::move(state)), last_words_([state = state_] { state->SayLastWords(); }) {}

Recorder::~Recorder() { Stop(); }

absl::StatusOr<std::unique_ptr<Recorder>> Recorder::Create(const scheduler::CoreConfig& config,
                                                           RecorderOptions options) {
  std::unique_ptr<JournalFile> file;
  if (!options.path.empty()) {
    auto created = JournalFile::Create(options.path, options.flush_interval);
    if (!created.ok()) return created.status();
    file = *std::move(created);
  }
  pb::JournalLife life = DescribeLife(config, options.version);
  return std::unique_ptr<Recorder>(new Recorder(
      std::make_shared<State>(std::move(life), std::move(options), std::move(file))));
}

void Recorder::Record(absl::Time now, const scheduler::Event& event) { state_->Record(now, event); }
void Recorder::RecordActions(absl::Span<const scheduler::Action> actions) {
  state_->RecordActions(actions);
}
void Recorder::Stop() { state_->Stop(); }
absl::StatusOr<std::string> Recorder::DumpRing(const std::string& reason) {
  return state_->DumpRing(reason);
}
std::string Recorder::path() const { return state_->path(); }

}  // namespace mirrorsd::journal
