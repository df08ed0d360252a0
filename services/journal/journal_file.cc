#include "services/journal/journal_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "services/journal/frame.h"
#include "services/telemetry/log.h"

namespace mirrorsd::journal {
namespace {

constexpr int kMaxLives = 1000;                   // files of one path
constexpr size_t kFlushAtBytes = 1 << 20;
constexpr size_t kMaxPendingBytes = 64 << 20;

std::string EndFrame(const std::string& why) {
  internal::v1::JournalRecord record;
  record.mutable_end()->set_reason(internal::v1::JOURNAL_END_REASON_DISK);
  record.mutable_end()->set_message(why);
  std::string frame;
  MakeFrame(record, &frame);
  return frame;
}

}  // namespace

absl::StatusOr<std::pair<int, std::string>> MakeNewFile(const std::string& path) {
  for (int life = 0; life < kMaxLives; ++life) {
    const std::string name = life == 0 ? path : absl::StrCat(path, ".", life);
    const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return std::make_pair(fd, name);
    if (errno != EEXIST) return BadFile(name, absl::StrCat("cannot be made: ", std::strerror(errno)));
  }
  return BadFile(path, "exists already, and so do all of its numbers; take old ones away",
                 absl::StrCat(kMaxLives, " files"));
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

absl::StatusOr<std::unique_ptr<JournalFile>> JournalFile::Create(const std::string& path,
                                                                 absl::Duration flush_interval) {
  auto made = MakeNewFile(path);
  if (!made.ok()) return made.status();
  return std::unique_ptr<JournalFile>(new JournalFile(made->second, made->first, flush_interval));
}

JournalFile::JournalFile(std::string path, int fd, absl::Duration flush_interval)
    : path_(std::move(path)), flush_interval_(flush_interval), fd_(fd) {
  pending_.append(kMagic.data(), kMagic.size());
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "journal");
    Run();
  });
}

JournalFile::~JournalFile() { Close(); }

bool JournalFile::Append(std::string_view frames) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failed_ || closing_) return false;
  if (pending_.size() + frames.size() > kMaxPendingBytes) {
    too_slow_ = true;
    failed_ = true;
    changed_.notify_one();
    return false;
  }
  // The writer waits without a limit only while nothing does, and to the interval's end otherwise.
  const bool wake = pending_.empty() || (pending_.size() < kFlushAtBytes &&
                                         pending_.size() + frames.size() >= kFlushAtBytes);
  pending_.append(frames.data(), frames.size());
  if (wake) changed_.notify_one();
  return true;
}

void JournalFile::Run() {
  while (true) {
    bool last;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return !pending_.empty() || closing_ || too_slow_; });
      changed_.wait_for(lock, absl::ToChronoNanoseconds(flush_interval_), [this] {
        return closing_ || too_slow_ || pending_.size() >= kFlushAtBytes;
      });
      last = closing_ || failed_;
    }
    std::lock_guard<std::timed_mutex> writing(write_mutex_);
    WritePending();
    if (last) return;
  }
}

void JournalFile::WritePending() {
  if (fd_ < 0) return;
  writing_.clear();
  bool too_slow;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_.swap(pending_);
    too_slow = too_slow_;
  }
  if (!WriteAll(fd_, writing_)) return Fail(std::strerror(errno));
  good_bytes_ += writing_.size();
  if (too_slow) Fail("the disk is too slow");
}

void JournalFile::Fail(const std::string& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    pending_.clear();
  }
  // Cutting the frame that did not fit makes room for the end's.
  const bool marked = ftruncate(fd_, static_cast<off_t>(good_bytes_)) == 0 &&
                      lseek(fd_, 0, SEEK_END) >= 0 && WriteAll(fd_, EndFrame(why));
  telemetry::LogError("journal", "recording has stopped; the scheduler goes on",
                      {{"file", path_}, {"reason", why}, {"bytes", good_bytes_},
                       {"marked", marked}});
  close(fd_);
  fd_ = -1;
}

void JournalFile::FlushNow(absl::Duration patience) {
  if (!write_mutex_.try_lock_for(absl::ToChronoNanoseconds(patience))) return;
  WritePending();
  write_mutex_.unlock();
}

void JournalFile::Close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::lock_guard<std::timed_mutex> writing(write_mutex_);
  WritePending();
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

}  // namespace mirrorsd::journal
