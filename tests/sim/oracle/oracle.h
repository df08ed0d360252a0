#pragma once
// DESIGN section 1 in executable form. It sees every event before the core does and every action that comes
// out, keeps its own books of what each request and each worker must be in, and says where the core departs
// from them. It knows nothing of the core's inside, and the core nothing of it. What it has checked, it
// counts in the coverage. Not thread-safe; one per cell.
//
//   bounds.cc    what must have happened by a certain time: deadlines, progress, no starvation
//   requests.cc  tokens, ends, statistics
//   workers.cc   commands, rounds, greetings, closings
//   branches.cc  what drafts are asked and say, early exits, and where windows may come from
//   oracle.cc    the step as a whole: what an event may cause, and the core's own gauges

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "scheduler/core/events.h"
#include "tests/sim/fleet/workers.h"
#include "tests/sim/oracle/asked_tree.h"
#include "tests/sim/oracle/coverage.h"
#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

enum class Life : uint8_t { kNew = 0, kWaiting, kStarting, kPrefilling, kDecoding, kEnded };

struct Peer;

struct Request {
  ConnectionId stream = 0;
  uint64_t ordinal = 0;  // order of submission
  SubmitRequest submit;
  const PlannedClient* client = nullptr;
  int32_t max_tokens = 0;  // cut by the context
  Life life = Life::kNew;
  bool cancelled = false;
  bool was_slow = false;
  bool asked_again = false;  // after an earlier life of the scheduler
  absl::Time submitted_at;   // by the core's clock
  absl::Time cancelled_at;

  std::vector<TokenId> output;
  Prefix prefix = kEmptyPrefix;  // of prompt and output
  int numerics_left = 3;         // bit n: the output is as numerics n would have it
  std::string numerics_id;       // of the verifier that gave the last token

  Peer* verifier = nullptr;
  SequenceId verifier_id = 0;
  int32_t total_length = 0;
  int32_t prefilled = 0;
  RoundId decided_round = 0;
  int64_t num_places = 0;
  uint64_t last_incarnation = 0;
  std::string last_verifier;     // that was lost
  int64_t resumes = 0;
  absl::Time life_since;  // when it came into this stage
  absl::Time moved_at;    // its last step forward
  absl::Time served_at = absl::InfinitePast();  // when a verifier last was there that may serve it
  // Why it last left its verifier: 'l' lost, 'e' item error, 'p' preempted, 0 never or since committed.
  char left = 0;
  int losses = 0;   // since its last token
  int errors = 0;   // likewise
  std::string error;  // what its last item failed with
  bool errors_fatal = false;

  Peer* draft = nullptr;
  SequenceId draft_id = 0;
  DraftSequenceState draft_state = DraftSequenceState::kAbsent;
  bool draft_lost = false;  // since its last window
  AskedTree tree;
  int32_t item_accepted = 0;  // of the item that is reported
  int32_t decided_accepted = 0;
  int32_t decided_length = 0;           // committed before decided_round
  std::vector<TokenId> decided_window;
  MirrorBooks books;
  MirrorBooks next;           // what the round that runs adds when it is decided

  int32_t length() const {
    return static_cast<int32_t>(submit.token_ids.size() + output.size());
  }
  bool live() const { return life != Life::kNew && life != Life::kEnded; }
  bool placed() const { return life >= Life::kStarting && life <= Life::kDecoding; }
};

// A sequence at a worker.
struct Held {
  Request* request = nullptr;  // null: EndSequence was sent
  Peer* peer = nullptr;
  absl::Time ended_at = absl::InfiniteFuture();  // when that was
  bool given_up = false;                         // the worker has not said so in time
};

// One connection of a worker.
struct Peer {
  ConnectionId id = 0;
  Hello hello;
  Fence fence;
  SimWorker* worker = nullptr;
  bool welcomed = false;
  bool closed = false;  // by whichever side
  bool draining = false;
  bool slow = false;    // a fault makes it so: bounds are wider
  int32_t num_live = 0;
  int32_t num_ending = 0;
  std::optional<StartVerify> round;
  std::vector<bool> done;  // [item] of the round
  std::vector<EarlyExitItem> exits;  // of the round, as reported
  bool exit_over = false;            // all of them are there
  int32_t num_branches = 0;          // asked of drafts for the round
  int32_t num_done = 0;
  RoundId last_round = 0;  // that ended
  SequenceId last_released = 0;
  absl::Time round_at;
  absl::Duration longest_round;
  absl::Time heard_at;
  absl::Time attached_at;
  absl::Time moved_at;  // a round began or ended, a sequence started, or work came
  absl::Time drained_at;
  std::optional<FaultKind> fault;  // that it is meant to fall to
  bool is_verifier() const { return hello.role == WorkerRole::kVerifier; }
};

class Oracle {
 public:
  using OnViolation = std::function<void(const std::string&)>;

  Oracle(const Plan& plan, Coverage* coverage, OnViolation on_violation);

  // What the world does. Times are of the scheduler's clock, which may be coarse.
  void Dialled(ConnectionId connection, SimWorker* worker);
  Request* Asked(ConnectionId stream, const SubmitRequest& submit, const PlannedClient* client);
  void StoodStill(absl::Time now) { stood_still_at_ = now; }
  // The scheduler died: every request and every connection with it.
  void BeginLife(uint64_t epoch, absl::Time now);
  void BeginDrain() { draining_ = true; }

  // One step of the core. `joined`: deadlines were due in it as well.
  void BeforeStep(absl::Time now, const scheduler::Event& event, bool joined);
  void Saw(const scheduler::Action& action);
  void AfterStep(const scheduler::Core& core);

  // Now and then: the bounds in time.
  void Watch(absl::Time now);
  void AtEnd(const scheduler::Core& core);

  // The next step may cause nothing at all, or nothing but the end of this connection as faulty.
  void ExpectNothing() { expectation_ = Expectation::kNothing; }
  void ExpectFaulty(ConnectionId connection) {
    expectation_ = Expectation::kFaulty;
    expected_connection_ = connection;
  }
  void ItemFailed(SequenceId id, const std::string& reason);

  Peer* FindPeer(ConnectionId connection);
  Request* FindRequest(ConnectionId stream);
  Request* FindLive(SequenceId id);  // whose sequence at a worker this is; null if ended or unknown
  const std::map<ConnectionId, std::unique_ptr<Peer>>& peers() const { return peers_; }
  const std::map<ConnectionId, std::unique_ptr<Request>>& requests() const { return requests_; }
  const absl::flat_hash_map<SequenceId, Held>& held() const { return held_; }
  int32_t num_live() const { return num_waiting_ + num_running_; }
  SequenceId next_sequence_id() const { return next_sequence_id_; }
  RoundId next_round_id() const { return next_round_id_; }
  Coverage& coverage() { return *coverage_; }
  bool IsMirror(const Request& request) const;
  // The branch that the last outcome was, if it was asked for or named.
  static AskedBranch* DecidedBranch(Request* request);

 private:
  enum class Expectation : uint8_t { kAnything = 0, kNothing, kFaulty };

  void Violation(const std::string& what) { on_violation_(what); }
  void Move(Request* request, Life life);
  void CoverMove(Life from, Life to);
  void SetDraftState(Request* request, DraftSequenceState state, Row row);

  // oracle.cc
  void BeforeReport(const scheduler::WorkerReported& event);
  void BeforeVerifierReport(Peer* peer, const ReportItem& item);
  void BeforeDraftReport(Peer* peer, const ReportItem& item);
  void CheckExpectation();
  void CheckGauges(const scheduler::Core& core);
  void CheckLate(const scheduler::CoreGauges& gauges, const scheduler::CoreCounters& counters);

  // requests.cc
  void SawCommit(const scheduler::CommitTokens& commit);
  void CheckTokens(Request* request, const Committed& committed);
  void CheckStats(const Request& request, const Committed& committed);
  void CoverCommit(Request* request, const Committed& committed);
  void SawFailure(const scheduler::FailRequest& fail);
  bool IsFair(const Request& request, const absl::Status& status, const std::string& reason,
              bool retryable);
  bool IsFairRefusal(const Request& request, const std::string& reason, bool retryable);
  void CoverFailure(Request* request, const std::string& reason);
  void End(Request* request);

  // workers.cc
  void SawWelcome(const scheduler::WelcomeWorker& welcome);
  void SawRefusal(const scheduler::RefuseWorker& refuse);
  void SawClose(const scheduler::CloseWorker& close);
  bool NameIsInUse(const Hello& hello) const;
  bool IsFairClose(const Peer& peer, const std::string& reason);
  void SawSend(const scheduler::SendToWorker& send);
  void SawStart(Peer* peer, const StartSequence& start, ConnectionId stream);
  void SawStartAtVerifier(Peer* peer, const StartSequence& start, Request* request);
  int32_t NumHeld(const Peer& peer) const;
  void SawEnd(Peer* peer, const EndSequence& end);
  void SawVerify(Peer* peer, const StartVerify& verify);
  int64_t CheckItem(Peer* peer, const VerifyItem& item);
  void Preempted(Peer* peer, Request* request);
  bool MayServe(const Peer& peer, const Request& request) const;
  void CoverShrunk(const Peer& peer, int64_t rows);
  void Lose(Peer* peer);  // its connection is over
  void NoteServed(const Peer& peer);
  void Release(SequenceId id);

  // branches.cc
  void TakeExit(Peer* peer, const ReportItem& item);
  void TakeProgress(Request* request, const RolloutProgress& progress);
  void SawRollout(Peer* peer, const StartRollout& rollout);
  void CheckPredicted(const StartRollout& rollout, const Request& request);
  void CheckOutcome(const StartRollout& rollout, const Request& request);
  void CheckRoot(const StartRollout& rollout, const RolloutRoot& root, Request* request);
  void CheckWindow(const VerifyItem& item, Request* request);
  void CheckBooks(const Request& request, const SpeculationStats& stats);

  // bounds.cc
  void WatchRequest(Request* request);
  void WatchPeer(Peer* peer);
  void WatchEnding(const Peer& peer);
  bool IsHealthy(const Peer& peer, absl::Duration for_long) const;

  const Plan& plan_;
  Coverage* coverage_;
  OnViolation on_violation_;

  absl::Time now_ = absl::InfinitePast();
  absl::Time stood_still_at_ = absl::InfinitePast();
  uint64_t epoch_ = 0;
  bool draining_ = false;
  std::map<ConnectionId, std::unique_ptr<Peer>> peers_;
  std::map<ConnectionId, std::unique_ptr<Request>> requests_;
  absl::flat_hash_map<SequenceId, Held> held_;
  SequenceId next_sequence_id_ = 1;  // of this life
  RoundId next_round_id_ = 1;
  uint64_t last_incarnation_ = 0;
  uint64_t next_ordinal_ = 1;
  int32_t num_waiting_ = 0;
  int32_t num_waiting_new_ = 0;  // of these, never placed
  int32_t num_running_ = 0;
  int32_t num_attached_[2] = {0, 0};
  int32_t num_draining_[2] = {0, 0};
  int32_t num_drafts_missing_ = 0;
  bool verifier_ever_ = false;  // in this life

  // Of the step that is going on.
  const scheduler::Event* event_ = nullptr;
  bool joined_ = false;
  int num_actions_ = 0;
  const Peer* reporter_ = nullptr;  // whose report it is
  absl::Time heard_before_;         // when it was heard the time before
  Expectation expectation_ = Expectation::kAnything;
  ConnectionId expected_connection_ = 0;
  bool expected_seen_ = false;
  Request* expected_commit_ = nullptr;  // the outcome that this event decides
  Request* item_of_ = nullptr;          // whose item this event reports
  std::vector<Request*> ended_;         // in this step
  bool cancel_was_live_ = false;
  Life cancel_life_ = Life::kNew;
  int32_t drafts_late_ = 0;
  bool degraded_[scheduler::kNumDegradedReasons] = {};
  int64_t deadlines_missed_ = 0;
  int64_t end_timeouts_ = 0;
  int64_t num_given_up_ = 0;
  bool saw_late_draft_go_ = false;
};

}  // namespace mirrorsd::sim
