#include "services/bench/rounds/run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/bench/machine.h"

namespace mirrorsd::bench {
namespace {

// What a step's answers came to.
Sums SumsOf(const std::vector<Answer>& answers) {
  Sums sums{.workloads = 1};
  absl::Duration first = absl::InfiniteDuration();
  absl::Duration last;
  for (const Answer& answer : answers) {
    const double tokens = static_cast<double>(answer.token_ids.size());
    sums.tokens += tokens;
    sums.decoded_tokens += std::max(tokens - 1, 0.0);
    first = std::min(first, answer.first_token);
    last = std::max(last, answer.last_token);
    sums.first_token_s += absl::ToDoubleSeconds(answer.first_token) / static_cast<double>(answers.size());
    const v1::SpeculationStatistics& speculation = answer.final.speculation();
    sums.rounds += static_cast<double>(speculation.rounds());
    sums.drafted += static_cast<double>(speculation.drafted_tokens());
    sums.accepted += static_cast<double>(speculation.accepted_tokens());
    sums.empty_windows += static_cast<double>(speculation.empty_window_rounds());
    sums.branch_hits += static_cast<double>(speculation.branch_hits());
    sums.branch_hit_depth += speculation.branch_hit_depth() * static_cast<double>(speculation.branch_hits());
    sums.branch_misses += static_cast<double>(speculation.branch_misses());
    sums.ngram_windows += static_cast<double>(speculation.fallbacks().ngram());
    sums.held_windows += static_cast<double>(speculation.fallbacks().held());
  }
  sums.decode_s = absl::ToDoubleSeconds(last - first);
  sums.wall_s = absl::ToDoubleSeconds(last);
  return sums;
}

}  // namespace

void Sums::Add(const Sums& other) {
  tokens += other.tokens;
  decoded_tokens += other.decoded_tokens;
  decode_s += other.decode_s;
  wall_s += other.wall_s;
  first_token_s += other.first_token_s;
  rounds += other.rounds;
  drafted += other.drafted;
  accepted += other.accepted;
  empty_windows += other.empty_windows;
  branch_hits += other.branch_hits;
  branch_hit_depth += other.branch_hit_depth;
  branch_misses += other.branch_misses;
  ngram_windows += other.ngram_windows;
  held_windows += other.held_windows;
  workloads += other.workloads;
}

absl::Status TokenLedger::Compare(const Prompt& prompt, double temperature, int sample,
                                  const std::string& contestant, const std::vector<int32_t>& token_ids) {
  const auto [found, is_new] = known_.try_emplace({prompt.id + "\n" + prompt.text, temperature, sample},
                                                  Known{contestant, token_ids});
  if (is_new) return absl::OkStatus();
  ++num_compared_;
  const Known& known = found->second;
  if (known.token_ids == token_ids) return absl::OkStatus();
  const auto [a, b] = std::mismatch(known.token_ids.begin(), known.token_ids.end(), token_ids.begin(),
                                    token_ids.end());
  const auto name = [](auto at, auto end) { return at == end ? "nothing" : absl::StrCat("token ", *at); };
  return absl::InternalError(absl::StrCat(
      "TOKENS DIFFER: prompt ", prompt.id, " (", prompt.category, "), temperature ", temperature,
      ", sample ", sample, ", output position ", a - known.token_ids.begin(), ": '", known.contestant,
      "' has ", name(a, known.token_ids.end()), ", '", contestant, "' has ", name(b, token_ids.end()),
      ". Speculation must not change a token: this is a bug, and the run says nothing about speed"));
}

v1::GenerateRequest RequestOf(const RoundsSettings& settings, const Prompt& prompt,
                              const Workload& workload, const WorkloadPrompt& which,
                              const Contestant& contestant) {
  v1::GenerateRequest request;
  if (prompt.IsChat()) {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(prompt.text);
  } else {
    request.set_prompt(prompt.text);
  }
  request.mutable_sampling()->set_temperature(static_cast<float>(workload.temperature));
  request.mutable_sampling()->set_seed(settings.seed);
  request.mutable_sampling()->set_sample_index(static_cast<uint32_t>(which.sample));
  request.set_max_tokens(settings.max_tokens);
  request.set_ignore_eos(settings.ignore_eos);
  request.mutable_speculation()->set_mode(contestant.mode);
  if (contestant.window > 0) {
    request.mutable_speculation()->set_num_speculative_tokens(contestant.window);
  }
  if (contestant.branch_top_k > 0) request.mutable_speculation()->set_branch_top_k(contestant.branch_top_k);
  return request;
}

namespace {

// One run: what its steps share.
class Run {
 public:
  Run(const RoundsSettings& settings, const std::vector<Prompt>& prompts,
      const std::vector<Workload>& workloads, MeasuredCell* cell)
      : settings_(settings), prompts_(prompts), workloads_(workloads), cell_(cell) {}

  absl::Status DoStep(const Step& step) {
    const Workload& workload = workloads_[step.workload_index];
    const Contestant& contestant = settings_.contestants[step.contestant_index];
    std::vector<v1::GenerateRequest> requests;
    for (const WorkloadPrompt& which : workload.prompts) {
      requests.push_back(RequestOf(settings_, prompts_[which.prompt_index], workload, which, contestant));
    }
    auto answers = cell_->Ask(requests);
    if (!answers.ok()) return answers.status();
    for (size_t i = 0; i < answers->size(); ++i) {
      const WorkloadPrompt& which = workload.prompts[i];
      absl::Status status =
          ledger_.Compare(prompts_[which.prompt_index], workload.temperature, which.sample,
                          contestant.Name(), (*answers)[i].token_ids);
      if (!status.ok()) return status;
    }
    auto metrics = cell_->Metrics();
    if (!metrics.ok()) return metrics.status();
    const MetricsReading reading = ReadMetrics(*metrics);
    const MetricsReading delta = reading.Since(last_reading_);
    last_reading_ = reading;
    if (step.repeat < 0) return absl::OkStatus();
    Measured& measured = result_.places[{workload.batch, workload.temperature, step.contestant_index,
                                         workload.category}];
    measured.by_repeat[step.repeat].Add(SumsOf(*answers));
    measured.phases.Add(delta);
    counted_.Add(delta);
    return absl::OkStatus();
  }

  RoundsMeasurement Finish(double other_cores, bool interrupted) {
    result_.other_cores = other_cores;
    result_.interrupted = interrupted;
    result_.num_answers_compared = ledger_.num_compared();
    result_.paced = counted_.paced;
    return std::move(result_);
  }

 private:
  const RoundsSettings& settings_;
  const std::vector<Prompt>& prompts_;
  const std::vector<Workload>& workloads_;
  MeasuredCell* const cell_;
  TokenLedger ledger_;
  MetricsReading last_reading_;
  MetricsReading counted_;
  RoundsMeasurement result_;
};

}  // namespace

absl::StatusOr<RoundsMeasurement> RunRounds(
    const RoundsSettings& settings, const std::vector<Prompt>& prompts, MeasuredCell* cell,
    const std::atomic<bool>& stop,
    const std::function<void(int64_t done, int64_t total, const std::string& now)>& show) {
  const std::vector<Workload> workloads = MakeWorkloads(settings, prompts);
  const std::vector<Step> steps = MakeSteps(settings, workloads);
  Run run(settings, prompts, workloads, cell);
  const OtherLoad load(cell->children());
  bool interrupted = false;
  for (size_t i = 0; i < steps.size() && !interrupted; ++i) {
    const Workload& workload = workloads[steps[i].workload_index];
    show(static_cast<int64_t>(i), static_cast<int64_t>(steps.size()),
         absl::StrCat(steps[i].repeat < 0 ? "warm-up, " : "", workload.category, ", ",
                      settings.contestants[steps[i].contestant_index].Name()));
    absl::Status status = stop.load() ? absl::CancelledError("stopped") : run.DoStep(steps[i]);
    interrupted = stop.load();
    if (!status.ok() && !interrupted) return status;
  }
  return run.Finish(load.Cores(), interrupted);
}

}  // namespace mirrorsd::bench
