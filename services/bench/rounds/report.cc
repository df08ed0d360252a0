#include "services/bench/rounds/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/bench/result_line.h"

namespace mirrorsd::bench {
namespace {

using nlohmann::ordered_json;

// Measurements under "all": every category of a repeat together, where the repeat has them all.
std::map<Place, Measured> WithAll(const std::map<Place, Measured>& places) {
  std::map<Place, Measured> with_all = places;
  std::map<Place, size_t> num_categories;
  std::map<Place, std::map<int, size_t>> complete;
  for (const auto& [place, measured] : places) {
    Place all = place;
    all.category = kAllCategories;
    ++num_categories[all];
    for (const auto& [repeat, sums] : measured.by_repeat) {
      with_all[all].by_repeat[repeat].Add(sums);
      ++complete[all][repeat];
    }
    with_all[all].phases.Add(measured.phases);
  }
  for (const auto& [all, repeats] : complete) {
    for (const auto& [repeat, count] : repeats) {
      if (count < num_categories[all]) with_all[all].by_repeat.erase(repeat);
    }
  }
  return with_all;
}

Figure MakeFigure(const RoundsSettings& settings, const Place& place, const Measured& measured,
                  const Measured* plain) {
  Figure figure{.batch = place.batch,
                .temperature = place.temperature,
                .contestant = settings.contestants[place.contestant_index],
                .category = place.category,
                .phases = measured.phases};
  std::vector<double> decode_rates, rates, plain_decode, plain_wall, decode, wall;
  for (const auto& [repeat, sums] : measured.by_repeat) {
    figure.sums.Add(sums);
    if (sums.decode_s > 0) decode_rates.push_back(sums.decoded_tokens / sums.decode_s);
    if (sums.wall_s > 0) rates.push_back(sums.tokens / sums.wall_s);
    if (plain == nullptr) continue;
    const auto beside = plain->by_repeat.find(repeat);
    // An interrupted repeat may have had fewer workloads on one side.
    if (beside == plain->by_repeat.end() || beside->second.workloads != sums.workloads) continue;
    if (!(sums.decode_s > 0) || !(sums.wall_s > 0)) continue;
    plain_decode.push_back(beside->second.decode_s), decode.push_back(sums.decode_s);
    plain_wall.push_back(beside->second.wall_s), wall.push_back(sums.wall_s);
  }
  figure.decode_rate = MedianEstimate(decode_rates);
  figure.end_to_end_rate = MedianEstimate(rates);
  figure.speed = PairedRatio(plain_decode, decode);
  figure.end_to_end_speed = PairedRatio(plain_wall, wall);
  return figure;
}

std::string Interval(const Estimate& estimate, const char* form) {
  if (estimate.count == 0) return "-";
  const auto format = absl::ParsedFormat<'f'>::New(form);
  std::string text = absl::StrFormat(*format, estimate.value);
  if (estimate.count < 2) return text;
  absl::StrAppend(&text, " [", absl::StrFormat(*format, estimate.low), ", ",
                  absl::StrFormat(*format, estimate.high), "]");
  return text;
}

ordered_json EstimateJson(const Estimate& estimate) {
  if (estimate.count == 0) return nullptr;
  return {{"median", Rounded(estimate.value)},
          {"low", Rounded(estimate.low)},
          {"high", Rounded(estimate.high)},
          {"repeats", estimate.count}};
}

ordered_json FigureJson(const Figure& figure) {
  ordered_json json = {{"batch", figure.batch},
                       {"temperature", figure.temperature},
                       {"mode", figure.contestant.mode},
                       {"window", figure.contestant.window},
                       {"branch_top_k", figure.contestant.branch_top_k},
                       {"category", figure.category},
                       {"decode_tokens_per_second", EstimateJson(figure.decode_rate)},
                       {"end_to_end_tokens_per_second", EstimateJson(figure.end_to_end_rate)},
                       {"time_to_first_token_ms",
                        Rounded(figure.sums.workloads > 0
                                    ? 1000 * figure.sums.first_token_s / figure.sums.workloads
                                    : 0)},
                       {"output_tokens", figure.sums.tokens},
                       {"rounds", figure.sums.rounds}};
  if (!figure.contestant.IsPlain()) {
    json["speed_over_plain"] = EstimateJson(figure.speed);
    json["end_to_end_speed_over_plain"] = EstimateJson(figure.end_to_end_speed);
    json["mean_acceptance_length"] = Rounded(figure.AcceptanceLength());
    json["acceptance_rate"] = Rounded(figure.AcceptanceRate());
    json["drafted_tokens"] = figure.sums.drafted;
    json["accepted_tokens"] = figure.sums.accepted;
    json["empty_window_rounds"] = figure.sums.empty_windows;
  }
  AddBranches(figure, &json);
  ordered_json phases = ordered_json::object();
  for (const auto& [phase, total] : figure.phases.phases) {
    if (total.count > 0) phases[phase] = Rounded(total.MeanMilliseconds());
  }
  const Total& wait = figure.phases.wait_for_draft;
  if (wait.count > 0) phases["verifier_wait_for_draft"] = Rounded(wait.MeanMilliseconds());
  json["mean_phase_ms"] = std::move(phases);
  if (const auto idle = figure.phases.IdleShare()) json["verifier_idle_share"] = Rounded(*idle);
  return json;
}

}  // namespace

std::vector<Figure> MakeFigures(const RoundsSettings& settings, const RoundsMeasurement& measurement) {
  const std::map<Place, Measured> places = WithAll(measurement.places);
  std::vector<Figure> figures;
  for (const auto& [place, measured] : places) {
    Place plain = place;
    plain.contestant_index = 0;
    const auto beside = places.find(plain);
    figures.push_back(MakeFigure(settings, place, measured,
                                 place.contestant_index > 0 && beside != places.end() ? &beside->second
                                                                                      : nullptr));
  }
  PredictRounds(&figures);
  return figures;
}

std::string RoundsTable(const RoundsSettings& settings, const RoundsMeasurement& measurement,
                        const std::vector<Figure>& figures) {
  std::string table = absl::StrFormat("%5s %4s  %-13s %-18s %-22s %10s  %-19s %6s %6s %8s %8s %7s\n", "batch",
                                      "temp", "mode", "kind", "decode tok/s", "end to end", "speed over plain",
                                      "length", "rate", "rounds", "round ms", "wait ms");
  for (const Figure& figure : figures) {
    const auto total = figure.phases.phases.find("total");
    const bool plain = figure.contestant.IsPlain();
    absl::StrAppendFormat(
        &table, "%5d %4.2g  %-13s %-18s %-22s %10s  %-19s %6s %6s %8.0f %8.2f %7.2f\n", figure.batch,
        figure.temperature, figure.contestant.Name(), figure.category, Interval(figure.decode_rate, "%.0f"),
        figure.end_to_end_rate.count > 0 ? absl::StrFormat("%.0f", figure.end_to_end_rate.value) : "-",
        Interval(figure.speed, "%.2f"),
        plain ? "-" : absl::StrFormat("%.2f", figure.AcceptanceLength()),
        plain ? "-" : absl::StrFormat("%.2f", figure.AcceptanceRate()), figure.sums.rounds,
        total != figure.phases.phases.end() ? total->second.MeanMilliseconds() : 0.0,
        figure.phases.wait_for_draft.MeanMilliseconds());
  }
  if (const std::string branches = BranchTable(figures); !branches.empty()) {
    absl::StrAppend(&table, "\n", settings.branch_setting, settings.branch_setting.empty() ? "" : "\n", branches);
  }
  absl::StrAppendFormat(&table,
                        "\n%d answers compared with plain decoding's, token by token: all the same. Other "
                        "processes kept %.2f cores busy.\n",
                        measurement.num_answers_compared, measurement.other_cores);
  for (const auto& [role, paced] : measurement.paced) {
    absl::StrAppendFormat(&table,
                          "Paced %s: of %.0f steps %.0f took longer than the profile says, %.0f ended late for want of "
                          "a core.\n",
                          role, paced.steps, paced.overruns, paced.late_wakes);
  }
  if (measurement.interrupted) table += "INTERRUPTED: figures of what was measured until then.\n";
  if (measurement.IsVoid()) {
    table += "VOID: more than 0.1 % of a worker's paced steps overran; these figures say nothing.\n";
  }
  return table;
}

void AddRounds(const RoundsSettings& settings, const RoundsMeasurement& measurement,
               const std::vector<Figure>& figures, ordered_json* line) {
  if (!settings.branch_setting.empty()) (*line)["branches"] = settings.branch_setting;
  (*line)["repeats"] = settings.repeats;
  (*line)["max_tokens"] = settings.max_tokens;
  (*line)["answers_compared_with_plain"] = measurement.num_answers_compared;
  (*line)["other_busy_cores"] = Rounded(measurement.other_cores);
  for (const auto& [role, paced] : measurement.paced) {
    (*line)["paced"][role] = {
        {"steps", paced.steps}, {"overruns", paced.overruns}, {"late_wakes", paced.late_wakes}};
  }
  if (measurement.interrupted) (*line)["interrupted"] = true;
  if (measurement.IsVoid()) (*line)["void"] = true;
  ordered_json all = ordered_json::array();
  for (const Figure& figure : figures) all.push_back(FigureJson(figure));
  (*line)["figures"] = std::move(all);
}

}  // namespace mirrorsd::bench
