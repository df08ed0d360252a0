#pragma once
// Who lives: requests with their places and workers with their names, so that a ring, which does not begin
// at the beginning, can still say whom its events are about. Watches, decides nothing. One thread at a time.

#include <cstdint>
#include <map>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "scheduler/core/events.h"

namespace mirrorsd::journal {

class AliveIndex {
 public:
  void Watch(const scheduler::Event& event);
  void Watch(const scheduler::Action& action);

  void Write(internal::v1::JournalRing* ring) const;

 private:
  struct Request {
    std::string request_id;
    std::map<SequenceId, ConnectionId> places;
  };
  struct Worker {
    std::string name;
    bool is_draft = false;
  };

  void WatchSend(const scheduler::SendToWorker& send);
  void Erase(ConnectionId stream);

  std::map<ConnectionId, Request> requests_;  // by stream
  std::map<ConnectionId, Worker> workers_;
  absl::flat_hash_map<SequenceId, ConnectionId> streams_;  // by sequence, of these requests
};

}  // namespace mirrorsd::journal
