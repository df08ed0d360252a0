#include "services/wire/field_check.h"

namespace mirrorsd::wire {
namespace {

// Bytes of the UTF-8 character at the front of `text`; 0 where there is none.
size_t CharacterBytes(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3
                      : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (size == 0 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // No overlong forms, no surrogates, nothing above U+10FFFF.
  if (first == 0xE0 && byte(1) < 0xA0) return 0;
  if (first == 0xED && byte(1) >= 0xA0) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) >= 0x90) return 0;
  return size;
}

}  // namespace

std::string WireText(absl::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const size_t size = CharacterBytes(text);
    if (out.size() + (size == 0 ? 1 : size) > max_bytes) break;
    if (size == 0) {
      out += '?';
      text.remove_prefix(1);
    } else {
      out.append(text.data(), size);
      text.remove_prefix(size);
    }
  }
  return out;
}

std::string Field::ToString() const {
  std::string text;
  if (parent_ != nullptr) text = parent_->ToString();
  if (*name_ != '\0') absl::StrAppend(&text, text.empty() ? "" : ".", name_);
  if (index_ >= 0) absl::StrAppend(&text, "[", index_, "]");
  return text;
}

void Checks::Fail(const Field& field, absl::string_view message, absl::string_view limit) {
  status_ = InvalidField(field.ToString(), message, limit);
}

void Checks::FailRange(const Field& field, int64_t value, int64_t low, int64_t high) {
  Fail(field, absl::StrCat("is ", value), absl::StrCat(low, " to ", high));
}

void Checks::FailFloat(const Field& field, float value, float low, float high, bool above_low) {
  Fail(field, absl::StrCat("is ", value),
       above_low ? absl::StrCat("above ", low, ", at most ", high) : absl::StrCat(low, " to ", high));
}

void Checks::FailCount(const Field& field, int64_t count, int64_t low, int64_t high) {
  Fail(field, absl::StrCat("has ", count, count == 1 ? " entry" : " entries"),
       low == high ? absl::StrCat("exactly ", low) : absl::StrCat(low, " to ", high));
}

void Checks::FailBytes(const Field& field, size_t bytes, size_t low, size_t high) {
  Fail(field, bytes == 0 ? "is empty" : absl::StrCat("has ", bytes, " bytes"),
       absl::StrCat(low, " to ", high, " bytes"));
}

void Checks::FailTokenId(const Field& field, int64_t index, int64_t id) {
  status_ = InvalidField(absl::StrCat(field.ToString(), "[", index, "]"),
                         absl::StrCat("is ", id), "at least 0");
}

}  // namespace mirrorsd::wire
