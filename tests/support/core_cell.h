#pragma once
// A whole cell without streams: the real scheduler core, a verifier session and draft sessions, in virtual time. Who
// takes the next step is drawn from a seed, also while the verifier is in the middle of a pass (between its
// early exit's report and its outcome), and workers may be killed anywhere. For tests of losslessness: what it
// yields must not depend on any of that. Not thread-safe.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/request.h"
#include "scheduler/core/core.h"
#include "tests/support/local_cell.h"
#include "workers/draft/draft_session.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::testing {

struct CoreCellOptions {
  scheduler::CoreConfig config;  // policies are filled in
  uint64_t seed = 1;
  // Units of work that the drafts may do while a round runs, drawn from 0 to this, before the exit and again after.
  int draft_steps = 12;
  double kill_draft = 0;     // probability at each chance: before the exit, and in the suffix
  double kill_verifier = 0;  // likewise, at most five times
};

class CoreCell {
 public:
  // The sessions outlive it and are used by nobody else.
  CoreCell(workers::VerifierSession* verifier, std::vector<workers::DraftSession*> drafts,
           CoreCellOptions options);

  // Runs the requests to their ends, all at once, and returns their output tokens. A request that failed is
  // told in error().
  std::vector<std::vector<TokenId>> Run(const std::vector<CellRequest>& requests);

  const scheduler::CoreCounters& counters() const { return core_->counters(); }
  // Of all requests, added up.
  const SpeculationStats& stats() const { return stats_; }
  const std::string& error() const { return error_; }
  int num_kills() const { return num_kills_; }

 private:
  struct Peer {
    workers::VerifierSession* verifier = nullptr;
    workers::DraftSession* draft = nullptr;
    std::string name;
    ConnectionId connection = 0;
    Fence fence;
    std::deque<WorkerCommand> inbox;
    bool killed = false;  // its session is to be emptied and attached anew
  };

  void Attach(Peer* peer);
  void Kill(Peer* peer);
  void Step(const scheduler::Event& event);
  void Perform(scheduler::Action action);
  void Tell(Peer* peer, WorkerReport report);
  bool WorkOnce(Peer* peer);
  void RunVerifier();
  void RunDrafts();
  bool Chance(double probability);
  void AddStats(const SpeculationStats& stats);

  CoreCellOptions options_;
  std::unique_ptr<scheduler::Core> core_;
  std::vector<std::unique_ptr<Peer>> peers_;  // the verifier first
  std::mt19937_64 random_;
  absl::Time now_ = absl::UnixEpoch();
  ConnectionId next_connection_ = 1;
  std::vector<std::vector<TokenId>> outputs_;
  size_t num_live_ = 0;
  SpeculationStats stats_;
  std::string error_;
  int num_kills_ = 0;
  int num_verifier_kills_ = 0;
};

}  // namespace mirrorsd::testing
