#pragma once
// One simulated cell: the real scheduler core in virtual time, simulated workers and clients, and a network
// that delays, repeats and drops. It checks every action of the core against what may be, and the core's
// invariants after every step. One seed is one schedule, exact to repeat. Not thread-safe.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "tests/sim/workers.h"

namespace mirrorsd::sim {

// What a schedule did; any that stays zero over a whole run means that something was not tried.
using Tally = std::map<std::string, int64_t>;

class Cell : public World {
 public:
  explicit Cell(uint64_t seed);
  ~Cell() override;

  // Runs the whole schedule: requests, faults, then a quiet end. Returns the breaches found.
  std::vector<std::string> Run();

  const Tally& tally() const { return tally_; }
  const std::string& story() const { return story_; }  // what happened, one line each
  int64_t num_steps() const { return num_steps_; }

  // World:
  absl::Time Now() const override { return now_; }
  void After(absl::Duration delay, std::function<void()> what) override;
  Random& random() override { return random_; }
  void Violation(const std::string& what) override;

 private:
  struct Client {
    SubmitRequest request;
    int32_t max_tokens = 0;  // cut by the context
    std::vector<TokenId> output;
    bool ended = false;
    bool cancelled = false;
    absl::Time submitted_at;
  };
  struct Connection {
    std::shared_ptr<SimWorker> worker;
    Fence fence;
    bool welcomed = false;
    bool closed = false;      // by the core: it must say no more
    bool detached = false;    // the core was told that it is gone
    absl::Time last_in;       // messages of one direction stay in order
    absl::Time last_out;
  };
  struct Pending {
    absl::Time at;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Pending& other) const {
      return std::tie(at, order) > std::tie(other.at, other.order);
    }
  };

  // The core and its actions.
  void Step(const scheduler::Event& event);
  void Perform(const scheduler::Action& action);
  void CheckCommit(ConnectionId stream, const Committed& committed);
  void CheckStats(const Client& client, const Committed& committed);
  void CheckFailure(ConnectionId stream, const absl::Status& status);
  absl::Duration Delay();
  absl::Time CoreNow() const;

  // Workers.
  Hello MakeHello(WorkerRole role, int index) ;
  ConnectionId Dial(WorkerRole role, int index);
  void Beat(ConnectionId id);
  void Detach(ConnectionId id, const std::string& why);
  void DialAgainLater(WorkerRole role, int index);
  Connection* PickWorker(WorkerRole role, ConnectionId* id);

  // The schedule.
  void PlanClients();
  void Submit();
  void PlanFaults();
  void Fault();
  ReportItem MakeLie();
  void Quieten();
  void CheckEnd();
  bool AllEnded() const;
  void Tell(const std::string& line);

  Random random_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  absl::Duration coarse_;
  uint64_t next_order_ = 0;
  std::priority_queue<Pending> pending_;
  std::unique_ptr<scheduler::Core> core_;
  scheduler::CoreConfig config_;
  int64_t num_steps_ = 0;
  absl::Time armed_ = absl::InfiniteFuture();

  ConnectionId next_connection_ = 1;
  std::map<ConnectionId, Connection> connections_;
  std::map<std::pair<WorkerRole, int>, int> dialling_;
  ConnectionId next_stream_ = 1000;
  std::map<ConnectionId, Client> clients_;
  int num_to_submit_ = 0;
  int num_verifiers_ = 0;
  int num_drafts_ = 0;
  bool two_numerics_ = false;
  bool quiet_ = false;
  absl::Time all_ended_at_ = absl::InfiniteFuture();
  bool nan_ = false;
  int duplicate_one_in_ = 0;
  int agreement_ = 70;

  Tally tally_;
  std::string story_;
  std::vector<std::string> violations_;
};

}  // namespace mirrorsd::sim
