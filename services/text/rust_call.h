#pragma once
// What a call of the crate's C ABI gives back, owned, and its code as a Status. Only for the
// classes of this folder. One thread at a time.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "services/text/crate/text_abi.h"

namespace mirrorsd::text {

// A buffer of the crate, freed with its owner.
class RustBytes {
 public:
  RustBytes() = default;
  ~RustBytes() { mirrorsd_text_bytes_free(bytes_); }
  RustBytes(const RustBytes&) = delete;
  RustBytes& operator=(const RustBytes&) = delete;

  MirrorsdTextBytes* out() { return &bytes_; }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data), bytes_.size};
  }

 private:
  MirrorsdTextBytes bytes_{nullptr, 0};
};

inline const uint8_t* RustData(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// What was handed to the crate, for people: a request's field or a file.
struct Subject {
  std::string name;
  bool is_file = false;
};

// OK for MIRRORSD_TEXT_OK. A panic over a request is INTERNAL; over a file it is the file's fault,
// as the crates meet some broken ones so. Anything else is about `subject`.
absl::Status FromRust(int32_t code, const RustBytes& error, const Subject& subject);

}  // namespace mirrorsd::text
