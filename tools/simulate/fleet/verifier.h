#pragma once
// The modelled verifier-worker: rounds in order, each as long as its rows take on the device; the exit report
// leaves after prefix and exit head while the suffix runs, what the target says after it. Tokens come from
// the text model. What the scheduler asks that a real worker would refuse is our bug (CHECK). Not thread-safe.

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "tools/simulate/fleet/worker.h"

namespace mirrorsd::simulate {

// Of rounds that only decode (no prompt chunk), so that the law can be held against them.
struct DecodeRounds {
  int64_t rounds = 0;
  int64_t items = 0;
  int64_t with_window = 0;  // items
  int64_t with_exit = 0;    // rounds
  int64_t pass_ns = 0;
  int64_t prefix_ns = 0;  // with the process's own time before it
  int64_t exit_ns = 0;
  int64_t suffix_ns = 0;  // and after it
  // From the end before to the start, of rounds whose sequences were all there before: what idles the verifier.
  int64_t follow_ups = 0;
  int64_t gap_ns = 0;

  void Add(const DecodeRounds& other);
};

class Verifier final : public Worker {
 public:
  using Worker::Worker;
  void Receive(std::vector<WorkerCommand> commands) override;
  const DecodeRounds& decode_rounds() const { return decode_; }

 private:
  struct Sequence {
    const TextKind* kind = nullptr;
    Prefix prefix = 0;
    int32_t prompt_length = 0;
    int32_t total_length = 0;
    int32_t length = 0;     // committed tokens
    int32_t kv_length = 0;
    int64_t blocks = 0;
  };
  struct Round {
    StartVerify command;
    PassRows rows;
    bool decodes_only = true;
    bool wants_exit = false;
    int64_t received_ns = 0;
    int64_t begun_ns = 0;
    PassTimes times;
  };
  void Work();
  void Start(const StartSequence& command);
  void Append(const AppendTokens& command);
  void End(const EndSequence& command);
  void Begin(StartVerify command, int64_t received_ns);
  void Count(const Round& round);
  VerifierPhaseTimes Phases(const Round& round) const;
  void ReportExit();
  void Finish();
  EarlyExitItem Exit(const VerifyItem& item, const Sequence& sequence) const;
  VerifyItemDone Verify(const VerifyItem& item);
  void Cover(Sequence* sequence, int64_t tokens);

  std::map<SequenceId, Sequence> sequences_;
  std::deque<std::pair<WorkerCommand, int64_t>> inbox_;  // with the time of arrival
  Round round_;
  bool busy_ = false;
  int64_t free_since_ns_ = -1;  // a round with these sequences ended; -1: something else came between
  DecodeRounds decode_;
};

}  // namespace mirrorsd::simulate
