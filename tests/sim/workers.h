#pragma once
// Simulated workers: what a correct verifier-worker and draft-worker do with commands, in virtual time, with
// the function of model.h for an engine. They hold the scheduler to its side of the contract and report
// each breach. Not thread-safe; a cell owns them.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/worker_messages.h"
#include "scheduler/core/events.h"
#include "tests/sim/model.h"

namespace mirrorsd::sim {

using scheduler::ReportItem;

// What a worker sees of the world.
class World {
 public:
  virtual ~World() = default;
  virtual absl::Time Now() const = 0;
  virtual void After(absl::Duration delay, std::function<void()> what) = 0;
  virtual Random& random() = 0;
  virtual void Violation(const std::string& what) = 0;
};

// One incarnation of a worker: from Hello to the end of its connection.
class SimWorker : public std::enable_shared_from_this<SimWorker> {
 public:
  using Report = std::function<void(ReportItem)>;

  SimWorker(World* world, Hello hello, Report report)
      : world_(world), hello_(std::move(hello)), report_(std::move(report)) {}
  virtual ~SimWorker() = default;

  virtual void Handle(const WorkerCommand& command) = 0;
  virtual size_t num_sequences() const = 0;
  const Hello& hello() const { return hello_; }

  // A dead worker does nothing; a hung one does nothing until it is no longer.
  void Kill() { dead_ = true; }
  void set_hung(bool hung);
  // Lies were told in its name: what the scheduler believes of it may be wrong from here on.
  void set_misled() { misled_ = true; }
  bool misled() const { return misled_; }
  bool dead() const { return dead_; }
  bool hung() const { return hung_; }

  KvBlocks Blocks() const { return {hello_.blocks.total, hello_.blocks.total - Used(), 0}; }

 protected:
  virtual int64_t Used() const = 0;
  virtual void Resume() {}
  void Say(ReportItem item) {
    if (!dead_) report_(std::move(item));
  }
  void Breach(const std::string& what);
  int64_t BlocksOf(int64_t tokens) const {
    return (tokens + hello_.kv_block_tokens - 1) / hello_.kv_block_tokens;
  }

  World* world_;
  Hello hello_;
  Report report_;
  bool dead_ = false;
  bool hung_ = false;
  bool misled_ = false;
};

class SimVerifier : public SimWorker {
 public:
  using SimWorker::SimWorker;
  void Handle(const WorkerCommand& command) override;
  size_t num_sequences() const override { return sequences_.size(); }

  absl::Duration base = absl::Milliseconds(10);
  absl::Duration per_row = absl::Microseconds(100);
  int numerics = 0;
  int nan_one_in = 0;           // of items; 0: never
  int kv_exhausted_one_in = 0;
  std::function<void()> on_nan;

 private:
  struct State {
    std::vector<TokenId> tokens;
    int32_t total_length = 0;
    int32_t kv_length = 0;
    bool started = false;
  };
  void Append(const AppendTokens& command);
  void Check(const StartVerify& command);
  void StartNext();
  VerifyItemDone Verify(const VerifyItem& item);
  int64_t Used() const override;
  void Resume() override { StartNext(); }

  std::map<SequenceId, State> sequences_;
  std::deque<StartVerify> line_;
  bool busy_ = false;
};

class SimDraft : public SimWorker {
 public:
  using SimWorker::SimWorker;
  void Handle(const WorkerCommand& command) override;
  size_t num_sequences() const override { return sequences_.size(); }

  absl::Duration per_depth = absl::Milliseconds(1);
  int agreement = 70;
  int evict_one_in = 0;  // of rollouts

 private:
  struct State {
    std::vector<TokenId> tokens;  // of the path
    int32_t prompt_length = 0;
    int32_t total_length = 0;
    int32_t kv_length = 0;
    bool ready = false;
    bool evicted = false;
    uint64_t generation = 0;  // of its rollout; a newer one replaces it
  };
  void BringBack(SequenceId id, absl::Duration delay);
  void RollOut(const StartRollout& command);
  void Continue(SequenceId id, uint64_t generation, StartRollout command, int32_t depth);
  int64_t Used() const override;
  void Resume() override;

  std::map<SequenceId, State> sequences_;
  std::deque<std::function<void()>> stuck_;  // what would have happened while hung; owns nobody
};

}  // namespace mirrorsd::sim
