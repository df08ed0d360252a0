#pragma once
// The seam between the core, which runs rounds, and a speculation policy, which only decides how long a
// window each sequence should have, and whether its branches are rolled out ahead. A policy is a pure
// function in its own file under scheduler/policy/ and a row in its table; it sees measurements and returns
// numbers, so it cannot touch KV, RPC or sampling. Plain data and a function pointer.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/request.h"

namespace mirrorsd {

// The modes that may be asked for, and those that have a name but are not in this version: what the command line, the
// API and the benchmarks take. A mode is a word here and a row in the table of scheduler/policy; policies_test
// holds the two together.
inline constexpr std::string_view kOfferedSpeculationModes = "off|serial|two_cohorts|mirror";
inline constexpr std::string_view kLaterSpeculationModes = "auto";

// "off", "serial", ...: what the command line and the statistics call it. kDefault is "default".
const char* SpeculationModeName(SpeculationMode mode);
// The mode of that name, offered or not; none for kDefault's and unknown ones.
std::optional<SpeculationMode> FindSpeculationMode(std::string_view name);

// What a mirror sequence does when the outcome was no branch. Never a wait for all, except kHold.
enum class MissFallback : uint8_t {
  kEmpty = 0,  // an empty window
  kNgram,      // what followed the same last tokens earlier in the text; empty where they never came before
  kHold,       // a serial draft, for which the cohort waits as long as it does for serial windows
};
inline constexpr std::string_view kMissFallbackNames = "empty|ngram|hold";
const char* MissFallbackName(MissFallback fallback);  // "empty", "ngram", "hold"
std::optional<MissFallback> FindMissFallback(std::string_view name);

// What a policy may know of one sequence when its next window is to be drafted.
struct SequenceOutlook {
  int32_t remaining_tokens = 0;         // that the request may still yield, >= 1
  int32_t requested_window = 0;         // num_speculative_tokens of the request or the default
  int32_t requested_top_k = 0;          // K of the request or the default
  int64_t drafted_tokens = 0;           // cumulative
  int64_t accepted_tokens = 0;
  bool draft_ready = false;
};

// What it may know of the cohort and its workers.
struct CohortOutlook {
  int32_t num_sequences = 0;
  absl::Duration verify_base;     // measured step time of one row at the verifier
  absl::Duration verify_per_row;  // and of each further row
  absl::Duration draft_base;      // measured time of one depth at the draft
  absl::Duration draft_per_row;
  MissFallback miss_fallback = MissFallback::kEmpty;  // as configured
};

struct PolicyDecision {
  int32_t window = 0;  // tokens to draft; the core caps it at remaining - 1 and the workers' limits
  // K > 0: the sequence's branches are rolled out while its rounds run, and its rounds wait for no draft (but for
  // kHold). 0: its window is drafted once the outcome is known, and the cohort waits for it.
  int32_t branch_top_k = 0;
  MissFallback miss_fallback = MissFallback::kEmpty;
};

struct SpeculationPolicy {
  const char* name;      // e.g. "fixed_window"
  SpeculationMode mode;  // what --speculation calls it
  // One decision per sequence, for the round after the one that has just ended; `decisions` has the size of
  // `sequences`.
  void (*decide)(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                 absl::Span<PolicyDecision> decisions);
  // Cohorts that its sequences are dealt out to, 1 or 2. With two, one's windows are drafted while the other's round
  // runs.
  int32_t num_cohorts = 1;
};

}  // namespace mirrorsd
