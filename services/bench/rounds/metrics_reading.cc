#include "services/bench/rounds/metrics_reading.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace mirrorsd::bench {
namespace {

// The value of label `name` in "a=\"1\",b=\"2\"".
std::string Label(std::string_view labels, std::string_view name) {
  const std::string key = std::string(name) + "=\"";
  size_t at = labels.find(key);  // role="..." has le=" in it
  while (at != std::string_view::npos && at > 0 && labels[at - 1] != '{' && labels[at - 1] != ',') {
    at = labels.find(key, at + 1);
  }
  if (at == std::string_view::npos) return "";
  const size_t begin = at + key.size();
  return std::string(labels.substr(begin, labels.find('"', begin) - begin));
}

void Take(std::string_view name, std::string_view labels, double value, MetricsReading* reading) {
  const bool of_prompts = Label(labels, "prompts") == "yes";
  if (of_prompts && name == "mirrorsd_round_seconds_count") {
    if (Label(labels, "phase") == "total") reading->prompt_rounds += value;
  } else if (of_prompts) {
    return;
  } else if (name == "mirrorsd_round_seconds_sum") {
    reading->phases[Label(labels, "phase")].seconds += value;
  } else if (name == "mirrorsd_round_seconds_count") {
    reading->phases[Label(labels, "phase")].count += value;
  } else if (name == "mirrorsd_verifier_wait_for_draft_seconds_sum") {
    reading->wait_for_draft.seconds += value;
  } else if (name == "mirrorsd_verifier_wait_for_draft_seconds_count") {
    reading->wait_for_draft.count += value;
  } else if (name == "mirrorsd_early_exit_relay_seconds_bucket") {
    double bound = 0;
    if (absl::SimpleAtod(Label(labels, "le"), &bound)) reading->relays[bound] += value;
  } else if (name == "mirrorsd_fallback_rounds_total") {
    if (Label(labels, "kind") == "empty") reading->empty_windows += value;
  } else if (name == "mirrorsd_paced_steps_total") {
    reading->paced[Label(labels, "role")].steps += value;
  } else if (name == "mirrorsd_paced_overruns_total") {
    reading->paced[Label(labels, "role")].overruns += value;
  } else if (name == "mirrorsd_paced_late_wakes_total") {
    reading->paced[Label(labels, "role")].late_wakes += value;
  }
}

void AddTo(const Total& from, double sign, Total* to) {
  to->seconds += sign * from.seconds;
  to->count += sign * from.count;
}

void Accumulate(const MetricsReading& from, double sign, MetricsReading* to) {
  for (const auto& [phase, total] : from.phases) AddTo(total, sign, &to->phases[phase]);
  AddTo(from.wait_for_draft, sign, &to->wait_for_draft);
  to->prompt_rounds += sign * from.prompt_rounds;
  to->empty_windows += sign * from.empty_windows;
  for (const auto& [bound, count] : from.relays) to->relays[bound] += sign * count;
  for (const auto& [role, steps] : from.paced) {
    PacedSteps& paced = to->paced[role];
    paced.steps += sign * steps.steps;
    paced.overruns += sign * steps.overruns;
    paced.late_wakes += sign * steps.late_wakes;
  }
}

}  // namespace

double MetricsReading::Seconds(const std::string& phase) const {
  const auto found = phases.find(phase);
  return found != phases.end() ? found->second.seconds : 0;
}

double MetricsReading::Count(const std::string& phase) const {
  const auto found = phases.find(phase);
  return found != phases.end() ? found->second.count : 0;
}

// As Prometheus' histogram_quantile does it. What is above the last finite bound is told as that bound.
std::optional<double> MetricsReading::RelayQuantile(double q) const {
  if (relays.empty() || relays.rbegin()->second <= 0) return std::nullopt;
  const double rank = q * relays.rbegin()->second;
  double below = 0, low = 0;
  for (const auto& [bound, count] : relays) {
    if (count >= rank && count > below) {
      if (!std::isfinite(bound)) return low;
      return low + (bound - low) * (rank - below) / (count - below);
    }
    below = count;
    low = bound;
  }
  return low;
}

std::optional<double> MetricsReading::IdleShare() const {
  const double all = Seconds("total") + wait_for_draft.seconds;
  if (!(all > 0)) return std::nullopt;
  const double busy = Seconds("prefix") + Seconds("exit_head") + Seconds("suffix") + Seconds("sample");
  return std::max(0.0, 1 - busy / all);
}

void MetricsReading::Add(const MetricsReading& other) { Accumulate(other, 1, this); }

MetricsReading MetricsReading::Since(const MetricsReading& earlier) const {
  MetricsReading difference = *this;
  Accumulate(earlier, -1, &difference);
  return difference;
}

MetricsReading ReadMetrics(std::string_view exposition) {
  MetricsReading reading;
  while (!exposition.empty()) {
    const size_t end = std::min(exposition.find('\n'), exposition.size());
    const std::string_view line = exposition.substr(0, end);
    exposition.remove_prefix(std::min(end + 1, exposition.size()));
    const size_t blank = line.rfind(' ');
    double value = 0;
    if (line.empty() || line[0] == '#' || blank == std::string_view::npos ||
        !absl::SimpleAtod(absl::string_view(line.data() + blank + 1, line.size() - blank - 1), &value)) {
      continue;
    }
    const std::string_view metric = line.substr(0, blank);
    const size_t brace = std::min(metric.find('{'), metric.size());
    Take(metric.substr(0, brace), metric.substr(brace), value, &reading);
  }
  return reading;
}

}  // namespace mirrorsd::bench
