#pragma once
// What came of one simulated life, and what the latency law says to it. Plain data and pure functions.

#include <array>
#include <cstdint>
#include <vector>

#include "common/request.h"
#include "scheduler/core/counters.h"
#include "scheduler/policy/latency_law.h"

namespace mirrorsd::simulate {

// Sorted measurements, asked for quantiles; in milliseconds.
class Sample {
 public:
  void Add(double value, int64_t count = 1) { values_.insert(values_.end(), count, value); }
  void Sort();  // before the first question
  bool empty() const { return values_.empty(); }
  double Quantile(double q) const;  // 0 where there are none
  double Mean() const;

 private:
  std::vector<double> values_;
};

// What laws say to it.
struct LawFigures {
  double round_ms = 0;        // the latency law, with the measured phases
  double paper_round_ms = 0;  // the Mirror-SD paper's: no exit head, no residual, no miss, every window whole
  double paper_tokens_per_second = 0;  // of one request
  double any_miss = 0;        // the share of rounds in which some sequence misses
};

struct Figures {
  SpeculationMode mode = SpeculationMode::kOff;
  int64_t requests = 0;   // finished
  int64_t refused = 0;
  int64_t failed = 0;
  int64_t output_tokens = 0;
  double virtual_s = 0;   // first arrival to last end
  // Output tokens per second of all requests together, and of one from its first token on (median).
  double tokens_per_second = 0;
  double request_tokens_per_second = 0;
  Sample ttft_ms;
  Sample token_ms;   // between tokens: a round's time over its tokens
  Sample total_ms;
  double mean_live = 0;  // requests, over time

  SpeculationStats stats;  // summed over the requests
  scheduler::CoreCounters counters;

  // Verifiers, means over rounds that only decode; see scheduler/policy/latency_law.h.
  double verifier_busy = 0;  // share of the time from the first arrival to the last end
  double draft_busy = 0;
  int64_t decode_rounds = 0;
  double sequences_per_round = 0;
  double window_share = 0;      // of their items with a window
  double round_ms = 0;          // pass and gap
  double gap_ms = 0;            // from the end of a pass to the next StartVerify here
  // Measured; `done` is the way there and back, `hold` what is left of the gap, `used_depth` is not told.
  scheduler::RoundPhases phases;
  double depth_ms = 0;          // one depth at the draft
  double rows_per_depth = 0;
  double branch_rows = 0;       // rolled out, per token that was accepted

  LawFigures law;

  // What the simulation cost.
  int64_t core_steps = 0;
  double cpu_s = 0;

  double TokensPerRound() const;   // 1 + accepted / rounds
  double AcceptanceRate() const;   // accepted / drafted
  double HitRate() const;          // hits / (hits and misses)
  double HitDepth() const;
};

}  // namespace mirrorsd::simulate
