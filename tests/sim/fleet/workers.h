#pragma once
// Simulated workers: what a correct verifier-worker and draft-worker do with commands, in virtual time, with
// the functions of model.h for engines. They hold the scheduler to its side of the contract and report each
// breach. One object is one incarnation: from Hello to the end of its connection. Not thread-safe; a cell
// owns them and outlives what they plan.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/worker_messages.h"
#include "scheduler/core/events.h"
#include "tests/sim/fleet/clock.h"
#include "tests/sim/fleet/model.h"

namespace mirrorsd::sim {

using scheduler::ReportItem;

class SimWorker {
 public:
  using Report = std::function<void(ReportItem)>;
  using OnBreach = std::function<void(const std::string&)>;

  SimWorker(VirtualClock* clock, Hello hello, Report report, OnBreach on_breach)
      : clock_(clock),
        hello_(std::move(hello)),
        report_(std::move(report)),
        on_breach_(std::move(on_breach)) {}
  virtual ~SimWorker() = default;

  // A command arrives; commands are handled in order.
  void Receive(const WorkerCommand& command);
  virtual size_t num_sequences() const = 0;
  const Hello& hello() const { return hello_; }

  // A dead worker does nothing. A hung one neither computes nor beats until it is no longer; a stalled one
  // beats, and computes nothing.
  void Kill() { dead_ = true; }
  void SetHung(bool hung) { Freeze(hung, stalled_); }
  void SetStalled(bool stalled) { Freeze(hung_, stalled); }
  // Lies were told in its name: what the scheduler believes of it may be wrong from here on.
  void set_misled() { misled_ = true; }
  void set_slowness(int64_t factor) { slowness_ = factor; }

  bool misled() const { return misled_; }
  bool dead() const { return dead_; }
  bool hung() const { return hung_; }
  bool frozen() const { return hung_ || stalled_; }
  absl::Time thawed_at() const { return thawed_at_; }
  int64_t num_done() const { return num_done_; }

  KvBlocks Blocks() const {
    return {hello_.blocks.total, std::max<int64_t>(0, hello_.blocks.total - Used()), 0};
  }

 protected:
  virtual void Work() = 0;  // handles what is in the inbox, as far as it can now
  virtual int64_t Used() const = 0;
  virtual void Thaw() { Work(); }
  void Say(ReportItem item) {
    if (!dead_) report_(std::move(item));
  }
  void Breach(const std::string& what);
  int64_t BlocksOf(int64_t tokens) const {
    return (tokens + hello_.kv_block_tokens - 1) / hello_.kv_block_tokens;
  }

  VirtualClock* clock_;
  Hello hello_;
  std::deque<WorkerCommand> inbox_;
  int64_t slowness_ = 1;
  int64_t num_done_ = 0;
  bool dead_ = false;

 private:
  void Freeze(bool hung, bool stalled);

  Report report_;
  OnBreach on_breach_;
  bool hung_ = false;
  bool stalled_ = false;
  bool misled_ = false;
  absl::Time thawed_at_ = absl::InfinitePast();
};

class SimVerifier : public SimWorker {
 public:
  using SimWorker::SimWorker;
  size_t num_sequences() const override { return sequences_.size(); }
  int64_t used_blocks() const { return used_; }

  absl::Duration base = absl::Milliseconds(10);
  absl::Duration per_row = absl::Microseconds(100);
  int numerics = 0;
  // In so many of 100 cases the early exit has the target's token among its candidates. One in `exit_mute` rounds
  // has no report although it was asked for; 0: none.
  int exit_recall = 70;
  int exit_mute = 0;
  // The next item fails so; then it is cleared.
  std::string next_error;
  std::function<void(SequenceId, const std::string&)> on_error;

 private:
  struct State {
    std::vector<TokenId> tokens;
    Prefix prefix = kEmptyPrefix;
    int32_t total_length = 0;
    int32_t kv_length = 0;
    int64_t blocks = 0;  // of its table
    bool started = false;
  };
  void Work() override;
  void Thaw() override;
  int64_t Used() const override { return used_; }
  void Start(const StartSequence& command);
  void Append(const AppendTokens& command);
  void End(const EndSequence& command);
  void Begin(StartVerify command);
  void Check(const StartVerify& command);
  void CheckItem(const VerifyItem& item);
  void ReportExit(RoundId round_id);
  EarlyExitItem Foresee(const VerifyItem& item, const State& state) const;
  EarlyExitRow ForeseeRow(Prefix prefix, std::optional<TokenId> drafted, int32_t top_k) const;
  void Finish();
  VerifyItemDone Verify(const VerifyItem& item);
  void Cover(State* state, int64_t tokens);

  std::map<SequenceId, State> sequences_;
  int64_t used_ = 0;
  StartVerify round_;
  bool busy_ = false;
  bool unfinished_ = false;  // frozen in the middle of a round
};

class SimDraft : public SimWorker {
 public:
  using SimWorker::SimWorker;
  size_t num_sequences() const override { return sequences_.size(); }

  // Faults: the ready sequence of the longest standing is dropped from KV (and brought back later), or its
  // state is lost for good. False if there is none.
  bool EvictOne();
  bool ForgetOne();

  absl::Duration per_depth = absl::Milliseconds(1);
  int agreement = 70;
  // Branches of a tree with several roots take their depths at their own pace, and one in so many ends before its
  // time; 0: none does.
  int gives_up_one_in = 0;

 private:
  // The continuation of one outcome of a round.
  struct Branch {
    int32_t num_accepted = 0;
    TokenId root_token = 0;
    Prefix prefix = kEmptyPrefix;  // up to what was said
    int32_t num_said = 0;
    int32_t ends_at = 0;           // depth at which it is over, the tree's or before
    bool over = false;
  };
  struct State {
    std::vector<TokenId> tokens;    // of the path
    std::vector<Prefix> prefixes;   // [i] of tokens[0, i]
    int32_t prompt_length = 0;
    int32_t total_length = 0;
    int32_t kv_length = 0;
    bool ready = false;
    bool evicted = false;
    bool forgotten = false;
    uint64_t generation = 0;  // of its tree; a newer one replaces it
    RoundId round_id = 0;     // of its tree
    RoundId refused_round = 0;
    std::vector<TokenId> window;
    int32_t depth = 0;
    std::vector<Branch> branches;
    std::set<Prefix> known;   // after which its next token was computed
    Branch* Find(int32_t num_accepted, TokenId root_token);
    void Push(TokenId token) {
      prefixes.push_back(Extend(PrefixAt(tokens.size()), token));
      tokens.push_back(token);
    }
    Prefix PrefixAt(size_t length) const { return length == 0 ? kEmptyPrefix : prefixes[length - 1]; }
  };
  // A step of a tree that is to come: a root that is to be named, or the next depth of a branch.
  struct Rollout {
    SequenceId id = 0;
    uint64_t generation = 0;
    RolloutRoot root;
  };
  void Work() override;
  void Thaw() override;
  int64_t Used() const override;
  void BringBack(SequenceId id, absl::Duration delay);
  void Append(const AppendTokens& command);
  void RollOut(const StartRollout& command);
  void CheckRollout(const StartRollout& command, const State& state);
  void CheckRoot(const RolloutRoot& root, const StartRollout& command);
  void Refuse(const StartRollout& command);
  void Replace(const StartRollout& command, State* state);
  void Plant(SequenceId id, const RolloutRoot& root, State* state);
  TokenId Ranked(const State& state, const RolloutRoot& root) const;
  Branch* AddBranch(SequenceId id, int32_t num_accepted, TokenId root_token, State* state);
  void SayKnown(SequenceId id, Branch* branch, State* state);
  void SayTokens(SequenceId id, std::vector<TokenId> tokens, Branch* branch, const State& state);
  void CancelTree(SequenceId id, State* state);
  void Continue(const Rollout& rollout);
  void Roll(const Rollout& rollout);

  std::map<SequenceId, State> sequences_;
  std::vector<Rollout> paused_;        // rollouts that a freeze holds up
  std::vector<SequenceId> paused_back_;  // likewise catch-ups
};

}  // namespace mirrorsd::sim
