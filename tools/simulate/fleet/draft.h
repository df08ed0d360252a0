#pragma once
// The modelled draft-worker: it catches up with prompts in chunks, and rolls out all branches of all sequences in one
// pass per depth, each as long as its rows take on the device. Commands that come during a pass are
// handled after it: roots are added and trees replaced between depths. Not thread-safe.

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "tools/simulate/fleet/draft_tree.h"
#include "tools/simulate/fleet/worker.h"

namespace mirrorsd::simulate {

struct DraftCounts {
  int64_t rollouts = 0;       // StartRollout commands
  int64_t roots = 0;
  int64_t exit_rollouts = 0;  // of them, those that an exit report led to
  int64_t relay_ns = 0;       // exit report sent to command here, of these
  int64_t residual_ns = 0;    // command here to the begin of a pass that may serve it, of these
  int64_t refused = 0;        // of an older round, or with a path that does not join
  int64_t depths = 0;         // passes that rolled out
  int64_t depth_ns = 0;       // and their time
  int64_t path_rows = 0;
  int64_t branch_rows = 0;

  void Add(const DraftCounts& other);
};

class Draft final : public Worker {
 public:
  using Worker::Worker;
  void Receive(std::vector<WorkerCommand> commands) override;
  const DraftCounts& counts() const { return counts_; }

 private:
  struct Taken {
    SequenceId id;
    bool is_rolling;
  };
  void Handle(const WorkerCommand& command, int64_t received_ns);
  void Start(const StartSequence& command);
  void RollOut(const StartRollout& command, int64_t received_ns);
  void Work();
  PassRows TakeRollouts();
  PassRows TakeCatchUp();
  void Finish();
  DraftTree* Find(SequenceId id);
  SequenceState StateOf(SequenceId id, const DraftTree& tree) const;

  std::map<SequenceId, DraftTree> sequences_;
  std::deque<std::pair<WorkerCommand, int64_t>> inbox_;  // with the time of arrival
  std::vector<int64_t> waiting_since_ns_;  // rollouts of an exit report that no pass has served yet
  std::vector<Taken> taken_;               // by the pass that runs
  int32_t depths_in_a_row_ = 0;            // since the last step of catching up
  bool busy_ = false;
  DraftCounts counts_;
};

}  // namespace mirrorsd::simulate
