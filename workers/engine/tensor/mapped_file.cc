#include "workers/engine/tensor/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::engine {
namespace {

absl::Status OpenError(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) return MissingFile(path, "no such file");
  return BadFile(path, absl::StrCat("cannot be opened: ", std::strerror(error)));
}

absl::StatusOr<int64_t> CheckedSize(int fd, const std::string& path, int64_t max_bytes) {
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    return BadFile(path, absl::StrCat("cannot be examined: ", std::strerror(errno)));
  }
  if (!S_ISREG(status.st_mode)) return BadFile(path, "is not a regular file");
  const int64_t size = status.st_size;
  if (size > max_bytes) {
    return BadFile(path, absl::StrCat("has ", size, " bytes"), absl::StrCat(max_bytes, " bytes"));
  }
  return size;
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path, int64_t max_bytes) {
  // Non-blocking, so that a pipe without a writer is refused rather than waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return OpenError(path, errno);
  const absl::StatusOr<int64_t> size = CheckedSize(fd, path, max_bytes);
  if (!size.ok() || *size == 0) {
    close(fd);
    if (!size.ok()) return size.status();
    return MappedFile(path, {});
  }
  void* data = mmap(nullptr, static_cast<size_t>(*size), PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return BadFile(path, absl::StrCat("cannot be mapped: ", std::strerror(error)));
  }
  return MappedFile(path, {static_cast<const uint8_t*>(data), static_cast<size_t>(*size)});
}

MappedFile::MappedFile(std::string path, absl::Span<const uint8_t> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
}

void MappedFile::WillNeed(int64_t offset, int64_t length) const {
  Advise(offset, length, MADV_WILLNEED);
}

void MappedFile::DontNeed(int64_t offset, int64_t length) const {
  Advise(offset, length, MADV_DONTNEED);
}

void MappedFile::Advise(int64_t offset, int64_t length, int advice) const {
  const int64_t size = static_cast<int64_t>(bytes_.size());
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t begin = std::clamp<int64_t>(offset, 0, size) / page * page;
  const int64_t end = std::clamp<int64_t>(length, 0, size - std::clamp<int64_t>(offset, 0, size)) +
                      std::clamp<int64_t>(offset, 0, size);
  if (end <= begin) return;
  madvise(const_cast<uint8_t*>(bytes_.data()) + begin, static_cast<size_t>(end - begin), advice);
}

}  // namespace mirrorsd::engine
