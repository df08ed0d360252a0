#pragma once
// What the scheduler's actor takes from its mailbox. Plain data.

#include <functional>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/worker_messages.h"
#include "scheduler/core/events.h"
#include "services/rpc/attach_server.h"
#include "services/wire/cell_description.h"

namespace mirrorsd::scheduler {

// One message of a worker, to be split into the core's events.
struct WorkerBatch {
  ConnectionId connection = 0;
  Fence fence;
  std::vector<WorkerReport> reports;
  rpc::Receipt receipt;  // let go of with the batch
};

struct DescribeAsked {
  std::function<void(const CellDescription*)> reply;
};

using Inbound = std::variant<Submitted, Cancelled, WorkerAttached, WorkerDetached, WorkerBatch,
                             DrainRequested, DescribeAsked>;

}  // namespace mirrorsd::scheduler
