#pragma once
// What a recorded life of a scheduler (docs/journal.md) says of its texts and its load: acceptance by depth, the exit's
// recall, when requests came and how long they were. So that what was served once can be simulated on other
// devices and in other modes. Reads a file; not thread-safe.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/simulate/load/workload.h"
#include "tools/simulate/model/text_model.h"

namespace mirrorsd::simulate {

struct RecordedLife {
  // Of rounds with windows. A depth that was seen in fewer than kMinRows rows has what all rows have; a curve
  // without as many outcomes is empty.
  TextKind kind;
  int64_t windows = 0;
  int64_t exit_outcomes = 0;
  std::vector<Arrival> load;  // requests that ended, in order of arrival, the first at 0
};

inline constexpr int kMinRows = 20;

// Repeats the life, as far as this build's core does what was recorded.
// Errors:  MISSING_FILE, BAD_FILE
absl::StatusOr<RecordedLife> LoadRecordedLife(const std::string& path);

}  // namespace mirrorsd::simulate
