#include "services/bench/tune/tune_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/bench/result_line.h"

namespace mirrorsd::bench {
namespace {

double Millis(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

// The best K of one layer.
Prediction BestOf(const TuneSetting& setting, const ExitLayer& exit) { return BestMirror(setting, {exit}); }

std::string Flags(const Prediction& best) {
  return absl::StrCat("--early-exit-layer ", best.layer, " --branch-top-k ", best.branch_top_k);
}

void AppendTable(const TuneSetting& setting, const TuneRun& run, std::string* out) {
  absl::StrAppendFormat(out, "\ntemperature %g: agreement of the draft %.1f %%\n\n", run.temperature,
                        100 * run.exits.front().agreement);
  absl::StrAppend(out, "| exit layer | prefix ms | exit head ms | suffix ms | recall@1 % | @4 % | @8 % "
                       "| given a reject @1 % | @4 % | @8 % | best K | depth in time | hits % | round ms "
                       "| tokens a round | tokens/s |\n"
                       "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const ExitLayer& exit : run.exits) {
    const Prediction best = BestOf(setting, exit);
    absl::StrAppendFormat(out, "| %d | %.3f | %.3f | %.3f |", exit.layer, Millis(exit.prefix),
                          Millis(exit.exit_head), Millis(exit.suffix));
    for (const auto& recall : {exit.recall, exit.recall_given_reject}) {
      for (const size_t k : {0, 2, 3}) absl::StrAppendFormat(out, " %.1f |", 100 * recall[k]);
    }
    absl::StrAppendFormat(out, " %d | %d | %.1f | %.3f | %.3f | %.1f |\n", best.branch_top_k, best.depth,
                          100 * best.hit_rate, Millis(best.round), best.tokens, best.speed);
  }
}

void AppendAdvice(const TuneSetting& setting, const TuneRun& run, std::string* out) {
  const Prediction best = BestMirror(setting, run.exits);
  const double plain = PlainSpeed(setting);
  const double serial = SerialSpeed(setting, run.exits.front());
  absl::StrAppendFormat(out,
                        "\npredicted tokens/s of one sequence at batch %d, window %d: plain %.1f, serial %.1f, "
                        "mirror %.1f\n",
                        setting.batch, setting.window, plain, serial, best.speed);
  absl::StrAppend(out, "for mirror rounds: ", Flags(best), "\n");
  if (best.speed >= plain && best.speed >= serial) return;
  absl::StrAppend(out, "but ", plain >= serial ? "plain decoding (--speculation off)" : "--speculation serial",
                  " is predicted to be faster here\n");
}

}  // namespace

std::string TuneTables(const std::string& label, const TuneSetting& setting, const std::vector<TuneRun>& runs) {
  std::string out = absl::StrFormat(
      "%s\na depth of the draft: %.3f ms, %.3f ms for each further row; assumed: relay %.0f us, between rounds "
      "%.0f us\n",
      label, static_cast<double>(setting.draft_step.base_ns) * 1e-6,
      static_cast<double>(setting.draft_step.per_row_ns) * 1e-6, absl::ToDoubleMicroseconds(setting.relay),
      absl::ToDoubleMicroseconds(setting.done));
  for (const TuneRun& run : runs) {
    AppendTable(setting, run, &out);
    AppendAdvice(setting, run, &out);
  }
  return out;
}

nlohmann::ordered_json TuneFiguresJson(const TuneSetting& setting, const std::vector<TuneRun>& runs) {
  nlohmann::ordered_json json = {{"batch", setting.batch},
                                 {"window", setting.window},
                                 {"branch_budget", setting.branch_budget},
                                 {"draft_depth_ms", Rounded(static_cast<double>(setting.draft_step.base_ns) * 1e-6)},
                                 {"draft_row_ms", Rounded(static_cast<double>(setting.draft_step.per_row_ns) * 1e-6)},
                                 {"plain_pass_ms", Rounded(Millis(setting.plain_pass))}};
  for (const TuneRun& run : runs) {
    nlohmann::ordered_json one = {{"temperature", run.temperature},
                                  {"agreement", Rounded(run.exits.front().agreement)}};
    for (const ExitLayer& exit : run.exits) {
      const Prediction best = BestOf(setting, exit);
      nlohmann::ordered_json layer = {{"early_exit_layer", exit.layer},
                                      {"prefix_ms", Rounded(Millis(exit.prefix))},
                                      {"exit_head_ms", Rounded(Millis(exit.exit_head))},
                                      {"suffix_ms", Rounded(Millis(exit.suffix))}};
      for (size_t k = 0; k < measure::kRecallTopKs.size(); ++k) {
        const std::string name = absl::StrCat(measure::kRecallTopKs[k]);
        layer["recall"][name] = Rounded(exit.recall[k]);
        layer["recall_given_reject"][name] = Rounded(exit.recall_given_reject[k]);
      }
      layer["branch_top_k"] = best.branch_top_k;
      layer["depth_in_time"] = best.depth;
      layer["predicted_hit_rate"] = Rounded(best.hit_rate);
      layer["predicted_round_ms"] = Rounded(Millis(best.round));
      layer["predicted_tokens_per_round"] = Rounded(best.tokens);
      layer["predicted_tokens_per_s"] = Rounded(best.speed);
      one["exits"].push_back(std::move(layer));
    }
    const Prediction best = BestMirror(setting, run.exits);
    one["chosen"] = {{"early_exit_layer", best.layer}, {"branch_top_k", best.branch_top_k}};
    one["predicted_tokens_per_s"] = {{"plain", Rounded(PlainSpeed(setting))},
                                     {"serial", Rounded(SerialSpeed(setting, run.exits.front()))},
                                     {"mirror", Rounded(best.speed)}};
    json["temperatures"].push_back(std::move(one));
  }
  return json;
}

}  // namespace mirrorsd::bench
