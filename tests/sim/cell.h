#pragma once
// One simulated cell: the real scheduler core in virtual time, simulated workers and clients, and a network
// that delays, repeats and drops. It carries out a plan; the oracle watches. One plan is one schedule,
// exact to repeat. Not thread-safe.
//
//   cell.cc     the core, its actions, clients
//   costs.cc    what a step costs
//   network.cc  workers come and go; reports on their way
//   faults.cc   what goes wrong
//   lies.cc     reports that no honest worker sends now

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "tests/sim/fleet/clock.h"
#include "tests/sim/fleet/workers.h"
#include "tests/sim/oracle/oracle.h"
#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

// What the core's steps took, of this thread's CPU time without that of looking at the clock.
struct StepCosts {
  int64_t all_ns = 0;
  int64_t verify_ns = 0;    // of outcomes and ends of rounds, with what they start
  int64_t progress_ns = 0;  // of rollouts
  int64_t num_items = 0;
  int64_t num_outcomes = 0;  // that committed
  int64_t num_progress = 0;
  int32_t most_live = 0;
  int64_t memory_bytes = 0;  // of the core while memory_live requests lived
  int32_t memory_live = 0;
};

class Cell {
 public:
  // `plan` and `coverage` must outlive it. With `tells` it keeps a transcript.
  Cell(const Plan& plan, Coverage* coverage, bool tells);
  ~Cell();

  // Core::CheckInvariants is not called: what the oracle finds alone.
  void SkipInvariants() { checks_invariants_ = false; }

  // Adds up what steps cost, and checks the core's invariants at every n-th only: for large cells.
  void MeasureSteps(int64_t check_every, StepCosts* costs) {
    check_every_ = check_every;
    costs_ = costs;
  }

  // Runs the whole schedule: requests, faults, then a quiet end. Returns the first thing that was wrong;
  // empty if nothing was.
  std::string Run();

  const std::string& story() const { return story_; }
  int64_t num_steps() const { return num_steps_; }
  int num_faults_in_midstream() const { return num_faults_; }

 private:
  // A worker process: it dials, and dials again.
  struct Host {
    WorkerRole role = WorkerRole::kVerifier;
    int index = 0;
    const PlannedWorker* planned = nullptr;
    int num_dials = 0;
    int64_t process_id = 1;       // another one after each death
    ConnectionId connection = 0;  // the latest
    bool dialling = false;
    int odd_hello = 0;            // the next Hello is wrong in this way
  };
  struct Connection {
    ConnectionId id = 0;
    Host* host = nullptr;
    Peer* peer = nullptr;
    std::unique_ptr<SimWorker> worker;
    Random link;
    absl::Time last_in;     // messages of one direction stay in order
    absl::Time last_out;
    bool broken = false;    // nothing passes any more
    explicit Connection(uint64_t seed) : link(seed) {}
  };

  // cell.cc
  absl::Time CoreNow() const;
  void Step(const scheduler::Event& event);
  void StepOnce(const scheduler::Event& event, bool joined);
  void StepCore(const scheduler::Event& event);
  void CountCosts(const scheduler::Event& event, int64_t ns);
  void MeasureMemory();
  void Perform(const scheduler::Action& action);
  void Arm();
  void PlanClients();
  void Submit(const PlannedClient& client, int attempt, bool asked_again);
  SubmitRequest MakeRequest(const PlannedClient& client, ConnectionId stream);
  void Flaws(const PlannedClient& client, SubmitRequest* request);
  void AskAgain(const Request& request);
  void Cancel(ConnectionId stream);
  void Watch();
  void Quieten();
  bool IsOver() const;
  void Violation(const std::string& what);
  void Tell(const std::string& line);
  void TellEvent(const scheduler::Event& event);

  // network.cc
  Hello MakeHello(Host* host);
  void Dial(Host* host);
  void MakeWorker(Connection* connection, const Hello& hello);
  void Beat(ConnectionId id);
  void Deliver(Connection* connection, ReportItem item);
  void Break(Connection* connection);  // nothing passes any more; the scheduler does not know yet
  void Detach(ConnectionId id, const std::string& why);
  void DialAgain(Host* host, absl::Duration backoff);
  absl::Duration Delay(Random* link) const;
  Connection* FindConnection(ConnectionId id);
  Connection* Alive(Host* host);  // its welcomed connection, or null

  // faults.cc
  void PlanFaults();
  void TryFault(const PlannedFault& fault);
  bool Fault(const PlannedFault& fault);
  bool FaultOfWorker(const PlannedFault& fault, Connection* connection);
  void Kill(Connection* connection, Random* random);
  void Drop(const PlannedFault& fault, Connection* connection);
  void Freeze(const PlannedFault& fault, Connection* connection);
  bool AllGone(const PlannedFault& fault);
  bool StandStill(const PlannedFault& fault);
  bool NewLife(const PlannedFault& fault);
  void CoverLater(FaultKind kind, Connection* connection, absl::Duration delay);

  // lies.cc
  void TryLie(const PlannedFault& fault, int tries);
  bool TellLie(Lie lie, Connection* connection, Random* random);
  bool TellExitLie(Lie lie, Connection* connection);
  bool TellDraftLie(Lie lie, Connection* connection, Random* random);
  bool SayFaulty(Connection* connection, ReportItem item, Lie lie);
  void TryStale(const PlannedFault& fault, int tries);
  bool SayStale(Stale stale, Connection* connection, Random* random);
  bool SayExitStale(Stale stale, Connection* connection, Random* random);
  bool SayDraftStale(Stale stale, Connection* connection, Random* random);
  bool SayNothing(Connection* connection, Fence fence, ReportItem item, Stale stale);

  const Plan& plan_;
  Coverage* coverage_;
  const bool tells_;
  VirtualClock clock_;
  scheduler::CoreConfig config_;
  std::unique_ptr<scheduler::Core> core_;
  Oracle oracle_;
  int64_t num_steps_ = 0;
  absl::Time armed_ = absl::InfiniteFuture();
  std::vector<scheduler::Action> actions_;

  ConnectionId next_connection_ = 1;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::map<ConnectionId, std::unique_ptr<Connection>> connections_;
  ConnectionId next_stream_ = 1001;
  std::map<ConnectionId, int> attempts_;  // of a stream's client
  std::vector<const PlannedFault*> postponed_;  // until a request is live
  size_t num_spares_ = 0;
  int num_faults_ = 0;  // while requests were live
  bool quiet_ = false;
  bool checks_invariants_ = true;
  int64_t check_every_ = 1;
  StepCosts* costs_ = nullptr;
  absl::Time all_ended_at_ = absl::InfiniteFuture();

  std::map<ConnectionId, std::string> names_;
  std::string story_;
  absl::Time told_at_ = absl::InfinitePast();
  std::string violation_;
};

}  // namespace mirrorsd::sim
