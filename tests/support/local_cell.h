#pragma once
// A cell without network, threads or clock: one verifier session and, if wanted, one draft session, driven
// in lockstep by the simplest scheduling there is. For tests of losslessness: what it yields must not
// depend on any of its options. Not thread-safe.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/sampling_parameters.h"
#include "common/worker_messages.h"
#include "workers/draft/draft_session.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::testing {

struct CellRequest {
  std::vector<TokenId> prompt;
  SamplingParameters sampling;
  std::vector<TokenId> end_token_ids;
  int32_t max_tokens = 1;
};

struct CellOptions {
  int32_t window = 0;         // draft tokens of a round; 0: speculation off
  int32_t batch = 1;          // live sequences at a time; others join as places become free
  int32_t prefill_chunk = 64; // rows of one prefill item
  int32_t max_rows = 1024;    // of one round
  // Instead of the draft: the window of a request after these tokens.
  std::function<std::vector<TokenId>(size_t request, const std::vector<TokenId>& tokens)> propose;
};

// What a run did, so that a test can assert that it exercised its setting.
struct CellStats {
  int64_t rounds = 0;
  int64_t windows = 0;             // not empty
  int64_t max_windows_in_round = 0;
  int64_t max_items_in_round = 0;
  int64_t mixed_rounds = 0;        // windows beside prefill chunks
  int64_t cached_tokens = 0;       // that sequences found in the prefix cache
  std::vector<int64_t> accepted_at;  // [row]
  std::vector<int64_t> rejected_at;  // [row]

  void Add(const CellStats& other);
};

class LocalCell {
 public:
  // Both outlive it; `draft` may be null. Sequence ids go on counting over runs.
  LocalCell(workers::VerifierSession* verifier, workers::DraftSession* draft);

  // Runs the requests to their ends and returns their output tokens. The first error of an item is
  // kept in error() and ends its request.
  std::vector<std::vector<TokenId>> Run(const std::vector<CellRequest>& requests,
                                        const CellOptions& options);

  const CellStats& stats() const { return stats_; }
  const std::string& error() const { return error_; }

 private:
  struct Live {
    size_t request = 0;
    SequenceId id = 0;
    std::vector<TokenId> tokens;  // committed, prompt and output
    int32_t prefilled = -1;       // -1: SequenceStarted is to come
    int32_t draft_kv_length = 0;
    bool draft_ready = false;
    bool drafting = false;        // a rollout is under way
    std::vector<TokenId> window;  // for the next round
    bool done = false;
  };

  void Join(const std::vector<CellRequest>& requests, size_t request);
  void Draft(const std::vector<CellRequest>& requests, const CellOptions& options);
  void RunRound(const std::vector<CellRequest>& requests, const CellOptions& options);
  void Settle(const std::vector<CellRequest>& requests, const VerifyDone& done,
              const StartVerify& round);
  void HearVerifier(const WorkerReport& report);
  void HearDraft(const WorkerReport& report);
  Live* Find(SequenceId id);

  workers::VerifierSession* verifier_;
  workers::DraftSession* draft_;
  std::vector<Live> live_;
  std::optional<VerifyDone> verify_done_;
  std::vector<std::vector<TokenId>> outputs_;
  SequenceId next_sequence_id_ = 1;
  RoundId next_round_id_ = 1;
  CellStats stats_;
  std::string error_;
};

}  // namespace mirrorsd::testing
