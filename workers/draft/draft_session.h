#pragma once
// The draft of one attachment: commands in, engine calls, reports out. It keeps its own KV of every
// sequence (of the committed path and of what it rolled out itself), reconciles it with the path that each
// StartRollout names, and rolls out `depth` tokens after each root. Nothing it computes can change a token of a
// request; it can be wrong, late or absent. Not a server: it knows no stream, no fence, and no clock but
// the one passed in.
//
// A sequence's latest round has a hypothesis tree (branch_tree.h): the continuation of every root that was
// asked for, all branches of all sequences one depth at a time in one pass. The same round_id adds roots; a
// later one replaces the tree, and what lies on its path, window or roots is kept with its KV, never computed
// again. Serial speculation is a tree of one branch, the decided outcome.
//
// Progress is sent depth by depth, `last` on a branch's final one; what was there already when a branch was
// asked for, at once and in one message. A root that cannot be rolled out (an unknown sequence, a path that does
// not join, no place in the window, more than kMaxBranches, the context's end) is answered at once by a
// progress without tokens that is the last; where it is the path, by the sequence's state as well. A root by own
// rank has no name before it is found; where there is no such rank, nothing is said of it.
//
// Thread rule: one thread; only progress() may be read from others.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/worker_messages.h"
#include "workers/engine/tensor/clock.h"
#include "workers/scripts/scripted_draft.h"
#include "workers/session/session_progress.h"

namespace mirrorsd::engine {
class Engine;
}

namespace mirrorsd::workers {

struct DraftSessionOptions {
  // max_sequences: states kept, with or without KV; max_rows: of one pass; max_window: largest depth.
  WorkerLimits limits{.max_sequences = 256, .max_rows = 1024, .max_window = 16};
  std::string model_name;              // for people
  std::string vocabulary_fingerprint;  // of tokenizer.json; computed by the process
  StepTimes step_times;                // as MeasureStepTimes() found; zero: not measured
  // Ids at or beyond it are never proposed (the target's table may be smaller); 0: own vocabulary size.
  int32_t max_proposed_tokens = 0;
  int32_t catch_up_chunk_tokens = 256;  // prefill rows of one Work() step
  int32_t noise_top = 64;               // best processed logits that get noise; DESIGN section 9
  // If set, proposals follow its recorded streams; all is computed as without it.
  std::shared_ptr<scripts::ScriptedDraft> script;
  engine::Clock* clock = nullptr;      // outlives the session; null: the host's
};

class DraftSession {
 public:
  using Emit = std::function<void(WorkerReport)>;

  // `engine` outlives the session and is used by nobody else.
  DraftSession(engine::Engine* engine, DraftSessionOptions options);
  ~DraftSession();
  DraftSession(const DraftSession&) = delete;
  DraftSession& operator=(const DraftSession&) = delete;

  // Who we are, for a new Attach stream; blocks are as of now.
  Hello MakeHello(const std::string& name, const std::string& boot_id) const;

  // A new attachment: everything is dropped and every block is free.
  void Reset();

  // Takes one command; runs no pass (kept KV may be copied). StartSequence and AppendTokens bring the prompt
  // (catch-up starts with what is there); StartRollout begins or adds to a round; EndSequence drops all.
  // StartVerify and Drain are ignored.
  void Handle(WorkerCommand command);

  // Whether Work() has something to do or to say.
  bool HasWork() const;

  // Emits the reports that wait, then does one unit: one depth of all rollouts that are ready to go (with
  // the forwarding of their missing path tokens), or, where there is none and after every few depths, one
  // catch-up chunk, shortest remaining first.
  void Work(const Emit& emit);

  // As VerifierSession::MeasureStepTimes.
  StepTimes MeasureStepTimes();
  void set_step_times(const StepTimes& times);

  // Readable from any thread.
  const SessionProgress& progress() const { return progress_; }
  const scripts::ScriptedDraft* script() const;  // null where there is none

 private:
  class State;
  SessionProgress progress_;
  std::unique_ptr<State> state_;
};

}  // namespace mirrorsd::workers
