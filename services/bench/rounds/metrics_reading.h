#pragma once
// What a cell's metrics say about the rounds between two looks: sums and counts of the phases, waits, empty windows,
// overruns of paced devices. Reads Prometheus text, as /metrics shows it. Pure.

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace mirrorsd::bench {

// A histogram's totals, or their difference.
struct Total {
  double seconds = 0;
  double count = 0;
  double MeanMilliseconds() const { return count > 0 ? 1000 * seconds / count : 0; }
};

// A worker whose steps last as long as an emulated device's.
struct PacedSteps {
  double steps = 0;
  double overruns = 0;    // of these, such that took longer than they should
  double late_wakes = 0;  // of these, such that ended late for want of a core

  // Figures of a run whose devices could not keep their time say nothing.
  bool IsVoid() const { return overruns > 0.001 * steps; }
};

struct MetricsReading {
  // round_seconds{phase} of rounds without prompt tokens: "total", "prefix", "exit_head", "suffix", "rollout", ...
  std::map<std::string, Total> phases;
  double prompt_rounds = 0;                 // the others
  Total wait_for_draft;                     // verifier_wait_for_draft_seconds
  std::map<double, double> relays;          // early_exit_relay_seconds: of at most so many seconds
  double empty_windows = 0;                 // fallback_rounds_total{kind="empty"}
  std::map<std::string, PacedSteps> paced;  // by role

  double Seconds(const std::string& phase) const;
  double Count(const std::string& phase) const;
  // The relay time below which a share `q` lies, linear within a bucket; none where there were no relays.
  std::optional<double> RelayQuantile(double q) const;
  // The share of the time of its rounds and waits in which the verifier did not compute.
  std::optional<double> IdleShare() const;

  void Add(const MetricsReading& other);
  MetricsReading Since(const MetricsReading& earlier) const;
};

MetricsReading ReadMetrics(std::string_view exposition);

}  // namespace mirrorsd::bench
