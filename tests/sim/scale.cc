#include "tests/sim/scale.h"

#include <iostream>
#include <string>

#include "absl/strings/str_format.h"
#include "scheduler/policy/policies.h"
#include "tests/sim/cell.h"

namespace mirrorsd::sim {
namespace {

constexpr int64_t kCheckEvery = 5000;  // steps, of the core's invariants: they are linear in all that lives
constexpr int kFaults = 60;

void Print(const Cell& cell, const StepCosts& costs) {
  const auto us = [](int64_t ns, int64_t num) { return num == 0 ? 0.0 : ns / 1e3 / num; };
  absl::PrintF("steps %d; most live requests %d\n", cell.num_steps(), costs.most_live);
  absl::PrintF("sequence-rounds %d: %.2f us of the core's CPU each, drafts and faults included "
               "(budget 5)\n",
               costs.num_outcomes, us(costs.all_ns, costs.num_outcomes));
  absl::PrintF("VerifyDone to StartVerify: %.2f us per item (budget 2); per progress of a rollout "
               "%.2f us\n",
               us(costs.verify_ns, costs.num_items), us(costs.progress_ns, costs.num_progress));
  absl::PrintF("memory of the core at the most: %.0f bytes per live sequence (prompts of 1 to 16, "
               "outputs up to 64 tokens)\n",
               costs.most_live == 0 ? 0.0 : 1.0 * costs.memory_bytes / costs.memory_live);
}

}  // namespace

Plan MakeScalePlan(uint64_t seed) {
  Plan plan = MakePlan(seed);
  Random random(seed, 99);
  plan.config = {};
  for (const SpeculationPolicy& policy : scheduler::Policies()) plan.config.policies.push_back(policy);
  plan.config.max_num_seqs = 96;
  plan.config.max_queued = kScaleSequences;
  plan.config.max_prefill_rows_per_round = 64;
  plan.config.min_round_timeout = absl::Seconds(3);
  plan.config.end_timeout = absl::Seconds(2);
  plan.config.worker_timeout = absl::Seconds(1);
  plan.tick = absl::Nanoseconds(1);
  plan.two_numerics = false;
  plan.joins_steps = false;
  PlannedWorker verifier;
  verifier.limits = {96, 400, 8};
  verifier.blocks = 80 * kContext / kBlockTokens / 2;  // short when all grow
  verifier.step = absl::Milliseconds(20);
  PlannedWorker draft;
  draft.limits = {64, 64, 8};
  draft.blocks = 10000;
  draft.step = absl::Milliseconds(1);
  plan.verifiers.assign(kScaleVerifiers, verifier);
  plan.drafts.assign(kScaleDrafts, draft);
  for (PlannedWorker& worker : plan.verifiers) worker.seed = random.Next();
  for (PlannedWorker& worker : plan.drafts) worker.seed = random.Next();
  plan.clients.assign(kScaleSequences, PlannedClient{});
  for (PlannedClient& client : plan.clients) {
    client.seed = random.Next();
    client.at = absl::Milliseconds(random.Uniform(20, 60));
    client.prompt_length = static_cast<int32_t>(random.Uniform(1, 16));
    client.max_tokens = 64;
    client.retries = true;
  }
  const std::vector<PlannedFault> kinds = MakePlan(seed + 1).faults;
  plan.faults.clear();
  for (int i = 0; i < kFaults; ++i) {
    PlannedFault fault = kinds[i % kinds.size()];
    fault.seed = random.Next();
    fault.at = absl::Milliseconds(random.Uniform(200, 1500));
    fault.index = static_cast<int32_t>(random.Uniform(0, 1 << 20));
    fault.role = random.OneIn(2) ? WorkerRole::kVerifier : WorkerRole::kDraft;
    const bool one = fault.kind != FaultKind::kGone && fault.kind != FaultKind::kNewLife;
    if (!one || fault.kind >= FaultKind::kItemError) fault.kind = FaultKind::kKill;
    plan.faults.push_back(fault);
  }
  return plan;
}

int RunScale(uint64_t seed) {
  const Plan plan = MakeScalePlan(seed);
  Coverage coverage;
  Cell cell(plan, &coverage, /*tells=*/false);
  StepCosts costs;
  cell.MeasureSteps(kCheckEvery, &costs);
  const std::string violation = cell.Run();
  absl::PrintF("%d verifiers, %d drafts, %d clients, %d faults in mid-stream\n", kScaleVerifiers,
               kScaleDrafts, kScaleSequences, cell.num_faults_in_midstream());
  Print(cell, costs);
  std::cout << "1 schedules, " << (violation.empty() ? "0 violations" : "1 violations: " + violation)
            << "\n";
  return violation.empty() && costs.most_live >= kScaleSequences ? 0 : 1;
}

}  // namespace mirrorsd::sim
