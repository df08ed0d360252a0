// What branches came to in a run of `bench rounds` (report.h).

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/speculation_policy.h"
#include "scheduler/policy/latency_law.h"
#include "services/bench/result_line.h"
#include "services/bench/rounds/report.h"

namespace mirrorsd::bench {
namespace {

std::string Microseconds(std::optional<double> seconds) {
  return seconds.has_value() ? absl::StrFormat("%.0f", 1e6 * *seconds) : "-";
}

absl::Duration MeanOf(const MetricsReading& phases, const char* phase) {
  const auto found = phases.phases.find(phase);
  return found != phases.phases.end() ? absl::Milliseconds(found->second.MeanMilliseconds()) : absl::ZeroDuration();
}

// Serial rounds have the same pass without an exit head, and the same way there and back.
std::optional<double> Predict(const Figure& mirror, const std::vector<Figure>& figures) {
  for (const Figure& serial : figures) {
    if (serial.contestant.mode != SpeculationModeName(SpeculationMode::kSerial) || serial.batch != mirror.batch ||
        serial.contestant.window != mirror.contestant.window || serial.temperature != mirror.temperature ||
        serial.category != mirror.category || serial.phases.Count("total") == 0) {
      continue;
    }
    scheduler::RoundPhases phases;
    phases.prefix = MeanOf(serial.phases, "prefix");
    phases.exit_head = MeanOf(mirror.phases, "exit_head");
    phases.suffix = MeanOf(serial.phases, "suffix") + MeanOf(serial.phases, "sample");
    phases.done = MeanOf(serial.phases, "total") - phases.prefix - phases.suffix;
    return absl::ToDoubleMilliseconds(scheduler::MirrorRound(phases));
  }
  return std::nullopt;
}

}  // namespace

void PredictRounds(std::vector<Figure>* figures) {
  for (Figure& figure : *figures) {
    if (figure.contestant.branch_top_k > 0) figure.predicted_round_ms = Predict(figure, *figures);
  }
}

std::string BranchTable(const std::vector<Figure>& figures) {
  std::string rows;
  for (const Figure& figure : figures) {
    if (figure.contestant.branch_top_k == 0) continue;
    const Sums& sums = figure.sums;
    const std::optional<double> idle = figure.phases.IdleShare();
    absl::StrAppendFormat(
        &rows, "%5d %4.2g  %-13s %-18s %8.2f %6.2f %7.0f %7.0f %7.0f %9s %9s %9s %9.2f %9s\n", figure.batch,
        figure.temperature, figure.contestant.Name(), figure.category, figure.HitRate(), figure.HitDepth(),
        sums.empty_windows, sums.ngram_windows, sums.held_windows, Microseconds(figure.phases.RelayQuantile(0.5)),
        Microseconds(figure.phases.RelayQuantile(0.99)),
        idle.has_value() ? absl::StrFormat("%.1f %%", 100 * *idle) : "-", figure.RoundMilliseconds(),
        figure.predicted_round_ms.has_value() ? absl::StrFormat("%.2f", *figure.predicted_round_ms) : "-");
  }
  if (rows.empty()) return "";
  return absl::StrCat(absl::StrFormat("%5s %4s  %-13s %-18s %8s %6s %7s %7s %7s %9s %9s %9s %9s %9s\n", "batch", "temp",
                                      "mode", "kind", "hit rate", "depth", "empty", "ngram", "held", "relay p50",
                                      "p99 us", "idle", "round ms", "by law"),
                      rows);
}

void AddBranches(const Figure& figure, nlohmann::ordered_json* json) {
  if (figure.contestant.branch_top_k == 0) return;
  (*json)["branch_hits"] = figure.sums.branch_hits;
  (*json)["branch_misses"] = figure.sums.branch_misses;
  (*json)["branch_hit_rate"] = Rounded(figure.HitRate());
  (*json)["branch_hit_depth"] = Rounded(figure.HitDepth());
  (*json)["fallbacks"] = {{"empty", figure.sums.empty_windows},
                          {"ngram", figure.sums.ngram_windows},
                          {"held", figure.sums.held_windows}};
  (*json)["round_ms"] = Rounded(figure.RoundMilliseconds());
  if (figure.predicted_round_ms.has_value()) {
    (*json)["round_ms_by_latency_law"] = Rounded(*figure.predicted_round_ms);
  }
  for (const auto& [name, q] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
    if (const auto seconds = figure.phases.RelayQuantile(q)) {
      (*json)["early_exit_relay_us"][name] = Rounded(1e6 * *seconds);
    }
  }
}

}  // namespace mirrorsd::bench
