#pragma once
// A regular file, mapped read-only: how weights reach the engine without being read twice. Not for files
// that others may truncate while they are mapped (a read past the new end ends the process, as with any
// mapping). Immutable after Open, callable from any thread.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace mirrorsd::engine {

class MappedFile {
 public:
  // Errors: MISSING_FILE; BAD_FILE for anything but a readable regular file (a folder, a pipe, a device)
  //         and for more than max_bytes, each naming the path and the limit.
  static absl::StatusOr<MappedFile> Open(const std::string& path, int64_t max_bytes);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  absl::Span<const uint8_t> bytes() const { return bytes_; }

  // Tells the system that [offset, offset + length) will be read soon, or not again. Hints only.
  void WillNeed(int64_t offset, int64_t length) const;
  void DontNeed(int64_t offset, int64_t length) const;

 private:
  MappedFile(std::string path, absl::Span<const uint8_t> bytes);
  void Advise(int64_t offset, int64_t length, int advice) const;

  std::string path_;
  absl::Span<const uint8_t> bytes_;
};

}  // namespace mirrorsd::engine
