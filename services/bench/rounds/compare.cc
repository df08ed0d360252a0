// Two runs of `bench rounds` side by side (report.h).

#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/error.h"
#include "services/bench/rounds/report.h"

namespace mirrorsd::bench {
namespace {

using nlohmann::json;
using FigureKey = std::tuple<int, double, std::string, int, int, std::string, std::string>;

constexpr const char* kCompared[] = {"speed_over_plain", "end_to_end_speed_over_plain"};

bool ReadEstimate(const json& figure, const char* name, Estimate* estimate) {
  const auto found = figure.find(name);
  if (found == figure.end() || !found->is_object()) return false;
  for (const char* part : {"median", "low", "high", "repeats"}) {
    if (!found->contains(part) || !(*found)[part].is_number()) return false;
  }
  *estimate = {(*found)["median"], (*found)["low"], (*found)["high"], (*found)["repeats"]};
  return estimate->count > 1;
}

absl::StatusOr<std::map<FigureKey, Estimate>> ReadFigures(const json& line, const std::string& path) {
  std::map<FigureKey, Estimate> figures;
  const bool has_figures = line.is_object() && line.contains("figures") && line["figures"].is_array();
  if (!has_figures) return BadFile(path, "its last line is not one of `bench rounds`");
  for (const json& figure : line["figures"]) {
    Estimate estimate;
    for (const char* name : kCompared) {
      if (!figure.is_object() || !ReadEstimate(figure, name, &estimate)) continue;
      if (!figure.value("mode", json()).is_string() || !figure.value("category", json()).is_string() ||
          !figure.value("batch", json()).is_number_integer() ||
          !figure.value("window", json()).is_number_integer() ||
          !figure.value("temperature", json()).is_number()) {
        return BadFile(path, "a figure does not say its batch, temperature, mode, window and category");
      }
      const json branch_top_k = figure.value("branch_top_k", json(0));
      figures[{figure["batch"], figure["temperature"], figure["mode"], figure["window"],
               branch_top_k.is_number_integer() ? branch_top_k.get<int>() : 0, figure["category"], name}] = estimate;
    }
  }
  return figures;
}

// The most of n independent 95 % intervals that chance lets miss in 99 of 100 comparisons.
int MostApart(int n) {
  double probability = 1;  // of exactly k
  for (int i = 0; i < n; ++i) probability *= 0.95;
  double sum = probability;
  int k = 0;
  while (sum < 0.99 && k < n) {
    probability *= static_cast<double>(n - k) / (k + 1) * (0.05 / 0.95);
    sum += probability;
    ++k;
  }
  return k;
}

}  // namespace

absl::StatusOr<Comparison> CompareRounds(const json& a, const json& b, const std::string& path_a,
                                         const std::string& path_b) {
  auto first = ReadFigures(a, path_a);
  if (!first.ok()) return first.status();
  auto second = ReadFigures(b, path_b);
  if (!second.ok()) return second.status();
  Comparison comparison;
  comparison.table = absl::StrFormat("%5s %4s  %-10s %-18s %-28s %-19s  %-19s\n", "batch", "temp", "mode", "kind",
                                     "figure", "first", "second");
  for (const auto& [key, one] : *first) {
    const auto found = second->find(key);
    if (found == second->end()) continue;
    const Estimate& other = found->second;
    const auto& [batch, temperature, mode, window, branch_top_k, category, name] = key;
    const bool agree = Agree(one, other);
    ++comparison.num_figures;
    comparison.num_apart += agree ? 0 : 1;
    absl::StrAppendFormat(&comparison.table,
                          "%5d %4.2g  %-10s %-18s %-28s %.2f [%.2f, %.2f]  %.2f [%.2f, %.2f]%s\n", batch,
                          temperature, Contestant{mode, window, branch_top_k}.Name(), category, name,
                          one.value, one.low, one.high, other.value, other.low, other.high, agree ? "" : "  APART");
  }
  if (comparison.num_figures == 0) return BadFile(path_b, "has no figure that the other has too");
  const int allowed = MostApart(comparison.num_figures);
  comparison.agree = comparison.num_apart <= allowed;
  absl::StrAppendFormat(&comparison.table,
                        "\n%d of %d figures differ by more than their intervals explain (up to %d by chance): %s\n",
                        comparison.num_apart, comparison.num_figures, allowed,
                        comparison.agree ? "the runs agree" : "THE RUNS DO NOT AGREE");
  return comparison;
}

}  // namespace mirrorsd::bench
