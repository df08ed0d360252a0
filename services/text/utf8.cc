#include "services/text/utf8.h"

namespace mirrorsd::text {

Utf8State::Step Utf8State::Take(uint8_t byte) {
  if (num_missing_ > 0) {
    if (byte < low_ || byte > high_) {
      *this = Utf8State();
      return Step::kInvalid;
    }
    low_ = 0x80;
    high_ = 0xBF;
    return --num_missing_ > 0 ? Step::kPartial : Step::kComplete;
  }
  if (byte < 0x80) return Step::kComplete;
  if (byte < 0xC2 || byte > 0xF4) return Step::kInvalid;
  num_missing_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  if (byte == 0xE0) low_ = 0xA0;   // shorter forms exist below
  if (byte == 0xED) high_ = 0x9F;  // surrogates above
  if (byte == 0xF0) low_ = 0x90;
  if (byte == 0xF4) high_ = 0x8F;  // above U+10FFFF
  return Step::kPartial;
}

size_t ValidUtf8Prefix(std::string_view bytes) {
  Utf8State state;
  size_t valid_bytes = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const Utf8State::Step step = state.Take(static_cast<uint8_t>(bytes[i]));
    if (step == Utf8State::Step::kInvalid) return valid_bytes;
    if (step == Utf8State::Step::kComplete) valid_bytes = i + 1;
  }
  return valid_bytes;
}

void LossyUtf8Decoder::Feed(std::string_view bytes, std::string* text) {
  for (const char c : bytes) {
    Utf8State::Step step = state_.Take(static_cast<uint8_t>(c));
    if (step == Utf8State::Step::kInvalid && !held_.empty()) {
      // The unfinished character is the broken part; this byte may well begin a good one.
      held_.clear();
      text->append(kReplacementCharacter);
      step = state_.Take(static_cast<uint8_t>(c));
    }
    switch (step) {
      case Utf8State::Step::kInvalid:
        text->append(kReplacementCharacter);
        break;
      case Utf8State::Step::kPartial:
        held_.push_back(c);
        break;
      case Utf8State::Step::kComplete:
        text->append(held_);
        text->push_back(c);
        held_.clear();
        break;
    }
  }
}

void LossyUtf8Decoder::Flush(std::string* text) {
  if (!held_.empty()) text->append(kReplacementCharacter);
  held_.clear();
  state_ = Utf8State();
}

}  // namespace mirrorsd::text
