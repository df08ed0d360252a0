#pragma once
// UTF-8 one byte at a time: is a prefix of a character still good, and what does a stream of bytes
// read as when broken sequences become U+FFFD. Not a Unicode library. Pure, or one thread at a
// time.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mirrorsd::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Follows the bytes of one character after another: no overlong forms, no surrogates, nothing above
// U+10FFFF. After kInvalid the state is that of a new character, the offending byte not taken.
class Utf8State {
 public:
  enum class Step : uint8_t { kComplete, kPartial, kInvalid };

  Step Take(uint8_t byte);
  bool is_partial() const { return num_missing_ > 0; }

 private:
  int num_missing_ = 0;
  uint8_t low_ = 0x80;  // bounds of the next continuation byte
  uint8_t high_ = 0xBF;
};

// The number of bytes before the first that is not UTF-8; the whole size if all are.
size_t ValidUtf8Prefix(std::string_view bytes);
inline bool IsValidUtf8(std::string_view bytes) { return ValidUtf8Prefix(bytes) == bytes.size(); }

// Bytes in, whole characters out: the concatenation of all outputs is the text of all bytes with
// each maximal broken part replaced by one U+FFFD, however the bytes are cut into pieces.
// Source: Unicode 15, section 3.9, "U+FFFD substitution of maximal subparts"; as Rust's
// from_utf8_lossy.
class LossyUtf8Decoder {
 public:
  void Feed(std::string_view bytes, std::string* text);
  void Flush(std::string* text);
  size_t held_bytes() const { return held_.size(); }

 private:
  Utf8State state_;
  std::string held_;  // the first bytes of an unfinished character, at most 3
};

}  // namespace mirrorsd::text
