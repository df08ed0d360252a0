#pragma once
// The latency law: how long a round takes and what it yields, from the times of its phases. The one place for it:
// policies decide by it, the simulator is held against it, and reports compare measured rounds with it.
// Beside it stand the laws that others published, to compare with. Not a measurement and not a
// policy. Pure functions, callable from any thread.
//
//   plain    T = T_prefix + T_suffix + T_done
//   serial   T = T_prefix + T_suffix + T_done + T_relay + T_used_depth
//   mirror   T = T_prefix + T_exit_head + max(T_suffix, T_relay + T_P1_residual + T_used_depth) + T_done + T_hold
//   speed      = E[tokens] / E[T], rounds with empty windows included

#include <cstdint>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace mirrorsd::scheduler {

// One round as the verifier, the scheduler and the draft spend it. What a mode does not have is left zero.
struct RoundPhases {
  absl::Duration prefix;       // begin of the pass and layers [0, early_exit_layer)
  absl::Duration exit_head;    // final norm and LM head after them, on all rows
  absl::Duration suffix;       // the other layers, the final head and the sampling
  absl::Duration relay;        // mirror: exit report sent to roots at the draft; serial: scheduler to draft and back
  absl::Duration p1_residual;  // what the draft still computes when these roots come
  absl::Duration used_depth;   // rolling out as many tokens as are used
  absl::Duration done;         // VerifyDone sent to the next StartVerify received
  absl::Duration hold;         // what the policy holds the cohort on top
};

absl::Duration PlainRound(const RoundPhases& phases);
// The whole rollout lies between two passes.
absl::Duration SerialRound(const RoundPhases& phases);
// The rollout lies beside the suffix; with `used_depth` of FreeDepth() the round is as long as the pass.
absl::Duration MirrorRound(const RoundPhases& phases);
// One round of one of two cohorts that take turns at a verifier, each drafting serially while the other is
// verified; `other` is the other one's.
absl::Duration TwoCohortsRound(const RoundPhases& phases, const RoundPhases& other);

// How many depths of `per_depth` the draft rolls out within the suffix, so that nothing waits for it.
// Errors:  `per_depth` must be positive, `most` not negative (CHECK)
int32_t FreeDepth(const RoundPhases& phases, absl::Duration per_depth, int32_t most);

// E[tokens] of a round whose window has acceptance.size() tokens, each accepted at its own rate where all before it
// were: the accepted ones and the correction token. 1 for an empty window.
// Shapes:  acceptance[G], in [0, 1]
double ExpectedTokens(absl::Span<const double> acceptance);
// The same with one rate at all positions.
double ExpectedTokens(double acceptance, int32_t window);

// The share of rounds that begin with a window where a miss leaves the next one empty, in the long run.
// `after_window` and `after_empty` are the chances of a hit in a round with a window and in one without.
double ShareOfWindows(double after_window, double after_empty);

// The chance that at least one of `num_sequences` misses. At 16 and a hit rate of 0.8 it is 0.97.
double AnyMiss(double hit_rate, int32_t num_sequences);

// Tokens per second; 0 for no time.
double Speed(double expected_tokens, absl::Duration expected_round);

// ---- what others published ------------------------------------------------------------------------

// The round of the Mirror-SD paper: no exit head, no residual of P1, no miss. `rendezvous_exit` and
// `rendezvous_verify` stand for sampling and transfer, "microseconds".
// Source:  arXiv 2510.13161v2, equation 10: T(1:le) + T_rv(ee) + max(T(le+1:N), T_draft(G)) + T_rv(fv)
absl::Duration PaperMirrorRound(absl::Duration prefix, absl::Duration suffix,
                                absl::Duration rollout, absl::Duration rendezvous_exit,
                                absl::Duration rendezvous_verify);
// Source:  arXiv 2510.13161v2, appendix C: T(1:le) + T(le+1:N) + T_draft(G)
absl::Duration PaperSerialRound(absl::Duration prefix, absl::Duration suffix,
                                absl::Duration rollout);

// Speculative speculative decoding: drafting for predicted outcomes during the whole pass, and a backup
// speculator after a miss.
struct SsdRound {
  double hit_rate = 0;     // of one sequence
  double tokens_hit = 1;   // E[tokens] of a round after a hit
  double tokens_miss = 1;  // and after a miss
  double primary = 0;      // time of the speculator that predicts, in passes of the target
  double backup = 0;       // time of the one that runs after a miss, likewise
  int32_t batch = 1;       // sequences that wait for each other: one miss makes all wait
};
// The expected speed against plain decoding.
// Source:  Kumar, Dao, May, arXiv 2603.03251, theorem 7 (code: tanishqkumar/ssd):
//          (p E_hit + (1 - p) E_miss) / (p max(1, T_p) + (1 - p) (1 + T_b)); in a batch of b the
//          denominator has p^b for p
double SsdSpeedup(const SsdRound& round);

}  // namespace mirrorsd::scheduler
