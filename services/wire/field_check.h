#pragma once
// Checks of a message's fields. A Field is a path that costs nothing until it is printed; a Checks keeps
// the first failure and makes the rest no-ops, so that a parser reads straight down. Not a parser itself.
// One thread each.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::wire {

// "verify_done.items[3].num_accepted". Lives on the stack of the parser; `parent` outlives it.
class Field {
 public:
  // The root of a message; an empty name is left out of the path.
  explicit Field(const char* name) : parent_(nullptr), name_(name), index_(-1) {}
  Field(const Field& parent, const char* name, int64_t index = -1)
      : parent_(&parent), name_(name), index_(index) {}

  std::string ToString() const;

 private:
  const Field* parent_;
  const char* name_;
  int64_t index_;
};

class Checks {
 public:
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

  // The general form: `good`, or the field is wrong.
  void Require(bool good, const Field& field, absl::string_view message,
               absl::string_view limit = "") {
    if (!good && status_.ok()) Fail(field, message, limit);
  }

  // value in [low, high].
  void InRange(const Field& field, int64_t value, int64_t low, int64_t high) {
    if ((value < low || value > high) && status_.ok()) FailRange(field, value, low, high);
  }

  void NotNegative(const Field& field, int64_t value) {
    if (value < 0 && status_.ok()) Fail(field, absl::StrCat("is ", value), "at least 0");
  }

  // Finite and in [low, high]; with `above_low`, in (low, high].
  void FloatInRange(const Field& field, float value, float low, float high,
                    bool above_low = false) {
    const bool good = std::isfinite(value) && value <= high && (above_low ? value > low : value >= low);
    if (!good && status_.ok()) FailFloat(field, value, low, high, above_low);
  }

  void IsFinite(const Field& field, float value) {
    if (!std::isfinite(value) && status_.ok()) Fail(field, "is not a finite number", "finite");
  }

  // A count of list entries in [low, high].
  void Count(const Field& field, int64_t count, int64_t low, int64_t high) {
    if ((count < low || count > high) && status_.ok()) FailCount(field, count, low, high);
  }

  void Bytes(const Field& field, const std::string& text, size_t low, size_t high) {
    if ((text.size() < low || text.size() > high) && status_.ok()) {
      FailBytes(field, text.size(), low, high);
    }
  }

  // Token ids: none negative. `Ids` is a protobuf repeated field of int32.
  template <typename Ids>
  void TokenIds(const Field& field, const Ids& ids, int64_t low, int64_t high) {
    Count(field, ids.size(), low, high);
    if (!ok()) return;
    for (int i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) {
        FailTokenId(field, i, ids[i]);
        return;
      }
    }
  }

 private:
  void Fail(const Field& field, absl::string_view message, absl::string_view limit);
  void FailRange(const Field& field, int64_t value, int64_t low, int64_t high);
  void FailFloat(const Field& field, float value, float low, float high, bool above_low);
  void FailCount(const Field& field, int64_t count, int64_t low, int64_t high);
  void FailBytes(const Field& field, size_t bytes, size_t low, size_t high);
  void FailTokenId(const Field& field, int64_t index, int64_t id);

  absl::Status status_;
};

// At most `max_bytes` of `text` as UTF-8, without half a character at the end and with `?` for what is none:
// a string field of proto3 must be UTF-8, or the receiver cannot read the message.
std::string WireText(absl::string_view text, size_t max_bytes);

}  // namespace mirrorsd::wire
