#pragma once
// The messages of an Attach stream: structs <-> proto. A parse either gives all of a message or says which
// field is wrong and how; the caller closes that stream and nothing else. Pure functions.

#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/worker_messages.h"
#include "mirrorsd/internal/v1/fleet.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {

// What a worker sent: its Hello, alone, or reports.
struct FromWorker {
  Fence fence;
  std::variant<std::vector<WorkerReport>, Hello> content;
};

// What the scheduler sent: a greeting, alone, or commands.
struct FromScheduler {
  Fence fence;
  std::variant<std::vector<WorkerCommand>, Welcome, Refused> content;
};

// A Hello of another schema_revision is passed on with little more than that number checked: whoever
// answers it can refuse it by name.
// Errors:  InvalidField, e.g. "reports[2].verify_done.items[3].num_accepted"
absl::StatusOr<FromWorker> Parse(const internal::v1::WorkerMessage& message);
absl::StatusOr<FromScheduler> Parse(const internal::v1::SchedulerMessage& message);

// The parts of these, as the journal keeps them.
void Parse(const internal::v1::Hello& message, const Field& field, Checks* checks, Hello* hello);
void Parse(const internal::v1::Heartbeat& message, const Field& field, Checks* checks,
           Heartbeat* heartbeat);

void Write(const Hello& hello, internal::v1::Hello* message);
void Write(const Heartbeat& heartbeat, internal::v1::Heartbeat* message);
void Write(const Welcome& welcome, internal::v1::Welcome* message);
void Write(const Refused& refused, internal::v1::Refused* message);
void Write(const WorkerReport& report, internal::v1::WorkerReport* message);
void Write(const WorkerCommand& command, internal::v1::WorkerCommand* message);

}  // namespace mirrorsd::wire
