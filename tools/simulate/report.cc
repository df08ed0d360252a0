#include "tools/simulate/report.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/speculation_policy.h"
#include "services/bench/result_line.h"
#include "services/bench/svg_plot.h"

namespace mirrorsd::simulate {
namespace {

double Ms(absl::Duration time) { return absl::ToDoubleMilliseconds(time); }

double PerRound(int64_t count, const Figures& figures) {
  return figures.counters.rounds > 0 ? 1.0 * count / figures.counters.rounds : 0;
}

struct Line {
  const char* key;     // in JSON
  const char* text;    // in the table
  int digits;
  std::function<double(const Figures&)> value;
};

const std::vector<Line>& Lines() {
  using F = Figures;
  static const std::vector<Line>* const lines = new std::vector<Line>{
      {"tokens_per_second", "output tokens/s, all requests", 1, [](const F& f) { return f.tokens_per_second; }},
      {"request_tokens_per_second", "of one request, median", 1,
       [](const F& f) { return f.request_tokens_per_second; }},
      {"tokens_per_round", "tokens a round (acceptance length)", 3, [](const F& f) { return f.TokensPerRound(); }},
      {"acceptance_rate", "acceptance rate", 3, [](const F& f) { return f.AcceptanceRate(); }},
      {"window_share", "rounds' items with a window", 3, [](const F& f) { return f.window_share; }},
      {"hit_rate", "branch hits of all outcomes", 3, [](const F& f) { return f.HitRate(); }},
      {"hit_depth", "depth of a hit", 2, [](const F& f) { return f.HitDepth(); }},
      {"branches_per_round", "branches started a round", 2,
       [](const F& f) { return PerRound(f.counters.branches_started, f); }},
      {"branch_rows_per_accepted", "branch rows computed, per token accepted", 2,
       [](const F& f) { return f.branch_rows; }},
      {"ttft_p50_ms", "time to first token, ms: p50", 2, [](const F& f) { return f.ttft_ms.Quantile(0.5); }},
      {"ttft_p99_ms", "  p99", 2, [](const F& f) { return f.ttft_ms.Quantile(0.99); }},
      {"token_p50_ms", "time per token, ms: p50", 3, [](const F& f) { return f.token_ms.Quantile(0.5); }},
      {"token_mean_ms", "  mean", 3, [](const F& f) { return f.token_ms.Mean(); }},
      {"token_p99_ms", "  p99", 3, [](const F& f) { return f.token_ms.Quantile(0.99); }},
      {"total_p50_ms", "whole request, ms: p50", 1, [](const F& f) { return f.total_ms.Quantile(0.5); }},
      {"total_p99_ms", "  p99", 1, [](const F& f) { return f.total_ms.Quantile(0.99); }},
      {"mean_live", "requests at once, mean", 2, [](const F& f) { return f.mean_live; }},
      {"sequences_per_round", "sequences a round", 2, [](const F& f) { return f.sequences_per_round; }},
      {"round_ms", "round, ms", 3, [](const F& f) { return f.round_ms; }},
      {"prefix_ms", "  layer prefix", 3, [](const F& f) { return Ms(f.phases.prefix); }},
      {"exit_head_ms", "  exit head", 3, [](const F& f) { return Ms(f.phases.exit_head); }},
      {"suffix_ms", "  layer suffix, final head, sampling", 3, [](const F& f) { return Ms(f.phases.suffix); }},
      {"gap_ms", "  verifier waits for the next", 3, [](const F& f) { return f.gap_ms; }},
      {"law_round_ms", "  the law's round", 3, [](const F& f) { return f.law.round_ms; }},
      {"paper_round_ms", "  the paper's law", 3, [](const F& f) { return f.law.paper_round_ms; }},
      {"paper_tokens_per_second", "  and its speed of one request", 1,
       [](const F& f) { return f.law.paper_tokens_per_second; }},
      {"any_miss", "rounds in which somebody misses", 3, [](const F& f) { return f.law.any_miss; }},
      {"relay_ms", "exit report to draft, ms", 3, [](const F& f) { return Ms(f.phases.relay); }},
      {"p1_residual_ms", "depth under way there, ms", 3, [](const F& f) { return Ms(f.phases.p1_residual); }},
      {"depth_ms", "one depth at the draft, ms", 3, [](const F& f) { return f.depth_ms; }},
      {"rows_per_depth", "rows of it", 2, [](const F& f) { return f.rows_per_depth; }},
      {"verifier_busy", "verifier busy, share", 3, [](const F& f) { return f.verifier_busy; }},
      {"draft_busy", "draft busy, share", 3, [](const F& f) { return f.draft_busy; }},
  };
  return *lines;
}

}  // namespace

std::string TableText(const std::vector<Figures>& modes) {
  std::string text = absl::StrFormat("%-44s", "");
  for (const Figures& figures : modes) {
    absl::StrAppendFormat(&text, "%14s", SpeculationModeName(figures.mode));
  }
  absl::StrAppend(&text, "\n");
  for (const Line& line : Lines()) {
    const bool is_told = std::any_of(modes.begin(), modes.end(),
                                     [&line](const Figures& figures) { return line.value(figures) != 0; });
    if (!is_told) continue;
    absl::StrAppendFormat(&text, "%-44s", line.text);
    for (const Figures& figures : modes) {
      absl::StrAppendFormat(&text, "%14.*f", line.digits, line.value(figures));
    }
    absl::StrAppend(&text, "\n");
  }
  for (const Figures& figures : modes) {
    absl::StrAppendFormat(
        &text,
        "%s: %d requests (%d refused, %d failed), %d tokens in %.3f s; simulated in %.2f s of CPU, "
        "%.1f million events a minute\n",
        SpeculationModeName(figures.mode), figures.requests, figures.refused, figures.failed,
        figures.output_tokens, figures.virtual_s, figures.cpu_s,
        figures.cpu_s > 0 ? figures.core_steps / figures.cpu_s * 60e-6 : 0);
  }
  return text;
}

nlohmann::ordered_json ToJson(const std::vector<Figures>& modes) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Figures& figures : modes) {
    nlohmann::ordered_json object;
    object["mode"] = SpeculationModeName(figures.mode);
    object["requests"] = figures.requests;
    object["refused"] = figures.refused;
    object["failed"] = figures.failed;
    object["output_tokens"] = figures.output_tokens;
    object["virtual_s"] = bench::Rounded(figures.virtual_s);
    for (const Line& line : Lines()) object[line.key] = bench::Rounded(line.value(figures));
    const scheduler::CoreCounters& counters = figures.counters;
    object["rounds"] = counters.rounds;
    object["empty_windows"] = counters.empty_windows;
    object["ngram_windows"] = counters.ngram_windows;
    object["held_windows"] = counters.held_windows;
    for (int i = 0; i < scheduler::kNumBranchMissReasons; ++i) {
      object["branch_misses"][scheduler::BranchMissReasonName(static_cast<scheduler::BranchMissReason>(i))] =
          counters.branch_misses[i];
    }
    object["branch_hits_per_depth"] = counters.branch_hits_per_depth;
    object["core_events"] = figures.core_steps;
    json.push_back(std::move(object));
  }
  return json;
}

std::vector<std::pair<std::string, std::string>> Plots(const std::vector<Figures>& modes,
                                                       const std::string& label) {
  const auto bars = [&](const std::string& title, const std::string& y_label,
                        const std::vector<std::pair<std::string, std::function<double(const Figures&)>>>& groups) {
    bench::Plot plot;
    plot.title = title;
    plot.subtitle = absl::StrCat("simulated: ", label);
    plot.y_label = y_label;
    for (const auto& [name, value] : groups) plot.groups.push_back(name);
    for (const Figures& figures : modes) {
      bench::PlotSeries series{SpeculationModeName(figures.mode), {}};
      for (const auto& [name, value] : groups) series.values.push_back({.y = value(figures)});
      plot.series.push_back(std::move(series));
    }
    return bench::SvgText(plot);
  };
  using F = Figures;
  return {
      {"throughput.svg",
       bars("Speed", "tokens/s",
            {{"all requests", [](const F& f) { return f.tokens_per_second; }},
             {"one request", [](const F& f) { return f.request_tokens_per_second; }}})},
      {"latency.svg",
       bars("Time per token", "ms",
            {{"p50", [](const F& f) { return f.token_ms.Quantile(0.5); }},
             {"mean", [](const F& f) { return f.token_ms.Mean(); }},
             {"p90", [](const F& f) { return f.token_ms.Quantile(0.9); }},
             {"p99", [](const F& f) { return f.token_ms.Quantile(0.99); }}})},
      {"rounds.svg",
       bars("What a round is made of", "ms",
            {{"prefix", [](const F& f) { return Ms(f.phases.prefix); }},
             {"exit head", [](const F& f) { return Ms(f.phases.exit_head); }},
             {"suffix", [](const F& f) { return Ms(f.phases.suffix); }},
             {"waiting", [](const F& f) { return f.gap_ms; }}})},
  };
}

std::string DescribeSettings(const Settings& settings) {
  std::string load;
  const Workload& workload = settings.workload;
  switch (workload.kind) {
    case Workload::Kind::kClosed: load = absl::StrCat(workload.concurrency, " at once"); break;
    case Workload::Kind::kRate: load = absl::StrCat(workload.rate, " a second"); break;
    case Workload::Kind::kTrace: load = "a trace"; break;
  }
  return absl::StrCat(settings.verifier.profile.name, " with ", settings.draft.profile.name, ", ", load);
}

}  // namespace mirrorsd::simulate
