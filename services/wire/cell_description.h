#pragma once
// What DescribeCell tells, as a plain struct: what the cell is and how it fares. Field meanings as in
// scheduling.proto. Plain data.

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/request.h"
#include "common/worker_messages.h"

namespace mirrorsd {

struct AttachedWorker {
  std::string name;
  WorkerRole role = WorkerRole::kVerifier;
  std::string state;  // "ready", "draining", "late"
  std::string model_name;
  std::string numerics_id;
  int64_t process_id = 0;
  KvBlocks blocks;
  int32_t num_sequences = 0;

  bool operator==(const AttachedWorker&) const = default;
};

struct CellDescription {
  uint32_t schema_revision = kSchemaRevision;
  uint64_t scheduler_epoch = 0;
  bool ready = false;
  std::string not_ready_reason;
  // Of the target; empty and 0 until a verifier has attached.
  std::string model_name;
  std::string model_fingerprint;
  std::string vocabulary_fingerprint;
  int32_t context_length = 0;
  int32_t vocabulary_size = 0;
  SpeculationMode default_speculation = SpeculationMode::kOff;
  int32_t default_num_speculative_tokens = 0;
  std::vector<std::string> speculation_degraded;  // reasons in force
  int32_t num_requests_running = 0;
  int32_t num_requests_waiting = 0;
  std::vector<AttachedWorker> workers;

  bool operator==(const CellDescription&) const = default;
};

}  // namespace mirrorsd
