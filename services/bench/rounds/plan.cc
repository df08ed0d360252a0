#include "services/bench/rounds/plan.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/speculation_policy.h"

namespace mirrorsd::bench {
namespace {

// std::shuffle's order differs from one library to the next.
template <typename T>
void Shuffle(std::mt19937_64* random, std::vector<T>* values) {
  for (size_t i = values->size(); i > 1; --i) std::swap((*values)[i - 1], (*values)[(*random)() % i]);
}

}  // namespace

const std::vector<Mode>& Modes() {
  static const std::vector<Mode>* const modes = [] {
    auto* table = new std::vector<Mode>;
    const std::string offered(kOfferedSpeculationModes);
    for (const absl::string_view name : absl::StrSplit(offered, '|')) {
      table->push_back({std::string(name), /*has_window=*/name != SpeculationModeName(SpeculationMode::kOff),
                        /*has_branches=*/name == SpeculationModeName(SpeculationMode::kMirror)});
    }
    return table;
  }();
  return *modes;
}

std::string Contestant::Name() const {
  std::string name = window > 0 ? absl::StrCat(mode, " ", window) : mode;
  if (branch_top_k > 0) absl::StrAppend(&name, " k", branch_top_k);
  return name;
}

absl::StatusOr<std::vector<Contestant>> MakeContestants(const std::vector<std::string>& modes,
                                                        const std::vector<int>& windows,
                                                        const std::vector<int>& branch_top_ks) {
  std::vector<Contestant> contestants = {{Modes().front().name}};
  for (const std::string& name : modes) {
    const auto mode = std::find_if(Modes().begin(), Modes().end(),
                                   [&](const Mode& each) { return each.name == name; });
    if (mode == Modes().end()) {
      std::string known;
      for (const Mode& each : Modes()) absl::StrAppend(&known, known.empty() ? "" : " or ", each.name);
      return absl::InvalidArgumentError(absl::StrCat("'", name, "' is unknown (limit: ", known, ")"));
    }
    for (const int window : mode->has_window ? windows : std::vector<int>{0}) {
      for (const int branch_top_k : mode->has_branches ? branch_top_ks : std::vector<int>{0}) {
        const Contestant contestant{name, window, branch_top_k};
        if (std::find(contestants.begin(), contestants.end(), contestant) == contestants.end()) {
          contestants.push_back(contestant);
        }
      }
    }
  }
  return contestants;
}

std::vector<Prompt> ChoosePrompts(const RoundsSettings& settings, std::vector<Prompt> prompts) {
  std::vector<Prompt> chosen;
  std::map<std::string, int> counts;
  for (Prompt& prompt : prompts) {
    const auto& wanted = settings.categories;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), prompt.category) == wanted.end()) {
      continue;
    }
    const int count = ++counts[prompt.category];
    if (settings.prompts_per_category > 0 && count > settings.prompts_per_category) continue;
    chosen.push_back(std::move(prompt));
  }
  return chosen;
}

std::vector<Workload> MakeWorkloads(const RoundsSettings& settings,
                                    const std::vector<Prompt>& prompts) {
  std::map<std::string, std::vector<int>> by_category;
  for (size_t i = 0; i < prompts.size(); ++i) {
    by_category[prompts[i].category].push_back(static_cast<int>(i));
  }
  std::vector<Workload> workloads;
  for (const int batch : settings.batches) {
    for (const double temperature : settings.temperatures) {
      for (const auto& [category, indices] : by_category) {
        const size_t width = static_cast<size_t>(batch);
        for (size_t first = 0; first < indices.size(); first += width) {
          Workload workload{batch, temperature, category, {}};
          std::map<int, int> samples;
          for (size_t i = 0; i < width; ++i) {
            const int index = indices[(first + i) % indices.size()];
            workload.prompts.push_back({index, samples[index]++});
          }
          workloads.push_back(std::move(workload));
        }
      }
    }
  }
  return workloads;
}

std::vector<Step> MakeSteps(const RoundsSettings& settings, const std::vector<Workload>& workloads) {
  std::mt19937_64 random(settings.seed);
  std::vector<int> contestants(settings.contestants.size());
  for (size_t i = 0; i < contestants.size(); ++i) contestants[i] = static_cast<int>(i);
  std::vector<Step> steps;
  for (int pass = 0; pass < settings.warm_ups; ++pass) {
    std::set<std::pair<int, double>> met;
    for (size_t i = 0; i < workloads.size(); ++i) {
      const bool first_of_its_kind = met.insert({workloads[i].batch, workloads[i].temperature}).second;
      for (const int contestant : contestants) {
        if (contestant == 0 || first_of_its_kind) steps.push_back({-1, static_cast<int>(i), contestant});
      }
    }
  }
  std::vector<int> order(workloads.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  for (int repeat = 0; repeat < settings.repeats; ++repeat) {
    Shuffle(&random, &order);
    for (const int workload : order) {
      Shuffle(&random, &contestants);
      for (const int contestant : contestants) steps.push_back({repeat, workload, contestant});
    }
  }
  return steps;
}

}  // namespace mirrorsd::bench
