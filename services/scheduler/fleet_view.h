#pragma once
// What the scheduler process remembers of its workers in order to describe them, and the log of who comes and
// goes: it watches the same events and actions as the core and decides nothing. One thread (the actor's).

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/worker_messages.h"
#include "scheduler/core/events.h"
#include "services/wire/cell_description.h"

namespace mirrorsd::scheduler {

class FleetView {
 public:
  void Watch(const Event& event);
  void Watch(const Action& action);

  // In order of attachment. `late_drafts`: what the core thinks of them.
  std::vector<AttachedWorker> Workers(const std::vector<ConnectionId>& late_drafts) const;

  // Of the first attached verifier, or of the last one that was.
  const std::optional<Hello>& target() const { return target_; }

 private:
  struct Entry {
    Hello hello;
    bool welcome = false;
    bool draining = false;
    KvBlocks blocks;
    int32_t num_sequences = 0;
  };

  Entry* Find(ConnectionId connection);
  void WatchReport(const ReportItem& item, Entry* entry);

  std::map<ConnectionId, Entry> workers_;
  std::optional<Hello> target_;
};

}  // namespace mirrorsd::scheduler
