#pragma once
// The journal's messages: what goes into the scheduler's core and comes out of it, structs <-> proto. The
// conversions are complete by construction: a new event, action or field of theirs, or a new field of
// CoreConfig, does not compile until it has its place here. Framing and files are services/journal's. Pure
// functions.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/request.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "scheduler/core/core.h"
#include "scheduler/core/events.h"

namespace mirrorsd::wire {

// Whose life it is.
struct RecordedBuild {
  uint32_t schema_revision = kSchemaRevision;
  std::string version;   // of the program
  std::string compiler;

  bool operator==(const RecordedBuild&) const = default;
};

struct RecordedPolicy {
  std::string name;
  SpeculationMode mode = SpeculationMode::kDefault;

  bool operator==(const RecordedPolicy&) const = default;
};

struct RecordedLife {
  RecordedBuild build;
  absl::Time started;            // wall clock, for people
  scheduler::CoreConfig config;  // its policies are empty: functions have no bytes
  std::vector<RecordedPolicy> policies;
};

struct RecordedEvent {
  absl::Time now;  // a whole number of nanoseconds
  scheduler::Event event;
};

// Errors:  InvalidField. A life of another schema_revision is told by that field, whatever else it holds.
absl::StatusOr<RecordedLife> Parse(const internal::v1::JournalLife& message);
absl::StatusOr<RecordedEvent> Parse(const internal::v1::JournalEvent& message);

void Write(const RecordedLife& life, internal::v1::JournalLife* message);
void Write(absl::Time now, const scheduler::Event& event, internal::v1::JournalEvent* message);
void Write(const scheduler::Action& action, internal::v1::JournalAction* message);

// What a story needs of the action; false, with nothing written, where that is nothing.
bool WriteNote(const scheduler::Action& action, internal::v1::JournalNote* note);

}  // namespace mirrorsd::wire
