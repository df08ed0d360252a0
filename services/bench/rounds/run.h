#pragma once
// Runs the steps of a plan at a cell and keeps what each (batch, temperature, contestant, category) took, repeat by
// repeat. Every token of every mode is compared with plain decoding's: a difference is a bug of ours, and ends the
// run. Not a judge of speed: report.h. One thread.

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "services/bench/prompt_file.h"
#include "services/bench/rounds/measured_cell.h"
#include "services/bench/rounds/metrics_reading.h"
#include "services/bench/rounds/plan.h"

namespace mirrorsd::bench {

// What the workloads of one repeat came to.
struct Sums {
  double tokens = 0;         // output tokens
  double decoded_tokens = 0; // without each request's first, which closes the prefill
  double decode_s = 0;       // first token of the first to last token of the last, over the workloads
  double wall_s = 0;         // from asking to the last token
  double first_token_s = 0;  // mean over the requests of a workload
  double rounds = 0;
  double drafted = 0;
  double accepted = 0;
  double empty_windows = 0;
  double branch_hits = 0;
  double branch_hit_depth = 0;  // tokens, summed over the hits
  double branch_misses = 0;
  double ngram_windows = 0;
  double held_windows = 0;
  double workloads = 0;

  void Add(const Sums& other);
};

struct Place {
  int batch = 1;
  double temperature = 0;
  int contestant_index = 0;
  std::string category;

  auto Key() const { return std::tie(batch, temperature, contestant_index, category); }
  bool operator<(const Place& other) const { return Key() < other.Key(); }
};

struct Measured {
  std::map<int, Sums> by_repeat;
  MetricsReading phases;  // over all repeats
};

struct RoundsMeasurement {
  std::map<Place, Measured> places;
  bool interrupted = false;
  double other_cores = 0;  // kept busy by other processes meanwhile
  std::map<std::string, PacedSteps> paced;  // by role, of what was counted
  int64_t num_answers_compared = 0;  // with plain decoding's, token by token

  // A paced run one of whose devices could not keep its time says nothing.
  bool IsVoid() const {
    return std::any_of(paced.begin(), paced.end(), [](const auto& entry) { return entry.second.IsVoid(); });
  }
};

// Tokens by (prompt, temperature, sample), from the first answer on.
class TokenLedger {
 public:
  // Errors:  INTERNAL naming the prompt, the first position that differs and both tokens
  absl::Status Compare(const Prompt& prompt, double temperature, int sample, const std::string& contestant,
                       const std::vector<int32_t>& token_ids);
  int64_t num_compared() const { return num_compared_; }

 private:
  struct Known {
    std::string contestant;
    std::vector<int32_t> token_ids;
  };
  std::map<std::tuple<std::string, double, int>, Known> known_;
  int64_t num_compared_ = 0;
};

v1::GenerateRequest RequestOf(const RoundsSettings& settings, const Prompt& prompt,
                              const Workload& workload, const WorkloadPrompt& which,
                              const Contestant& contestant);

// `stop` ends it early, with what was measured so far; `show` is told before each step.
// Errors:  a request's that failed; a difference in tokens (TokenLedger)
absl::StatusOr<RoundsMeasurement> RunRounds(
    const RoundsSettings& settings, const std::vector<Prompt>& prompts, MeasuredCell* cell,
    const std::atomic<bool>& stop,
    const std::function<void(int64_t done, int64_t total, const std::string& now)>& show);

}  // namespace mirrorsd::bench
