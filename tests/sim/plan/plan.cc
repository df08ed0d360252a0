#include "tests/sim/plan/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/policy/policies.h"
#include "tests/sim/fleet/model.h"

namespace mirrorsd::sim {
namespace {

absl::Duration Millis(Random* random, int64_t low, int64_t high) {
  return absl::Milliseconds(random->Uniform(low, high));
}

void PlanConfig(Random* random, Plan* plan) {
  scheduler::CoreConfig& config = plan->config;
  config.scheduler_epoch = static_cast<uint64_t>(random->Uniform(2, 9));
  for (const SpeculationPolicy& policy : scheduler::Policies()) config.policies.push_back(policy);
  config.num_speculative_tokens = static_cast<int32_t>(random->Uniform(1, 6));
  config.max_num_seqs = static_cast<int32_t>(random->Uniform(2, 8));
  config.max_queued = static_cast<int32_t>(random->OneIn(4) ? 0 : random->Uniform(1, 12));
  config.max_prefill_rows_per_round = static_cast<int32_t>(random->Uniform(1, 24));
  config.queue_timeout = Millis(random, 500, 8000);
  config.worker_timeout = Millis(random, 400, 2500);
  config.verifier_loss_timeout = Millis(random, 300, 6000);
  config.min_round_timeout = Millis(random, 1500, 4000);
  config.end_timeout = Millis(random, 500, 4000);
  config.stall_timeout = Millis(random, 500, 4000);
  config.max_draft_wait = Millis(random, 50, 1000);
  if (random->OneIn(2)) config.vocabulary_fingerprint = "vocabulary";
  if (random->OneIn(4)) config.model_fingerprint = "target";
  plan->tick = random->OneIn(3)   ? absl::Milliseconds(20)
               : random->OneIn(2) ? absl::Milliseconds(1)
                                  : absl::Nanoseconds(1);
  plan->agreement = static_cast<int32_t>(random->Uniform(0, 100));
  plan->repeat_one_in = random->OneIn(2) ? 20 : 0;
  plan->two_numerics = random->OneIn(3);
  plan->joins_steps = random->OneIn(2);
  // Mirror rounds for all by default in half of the cells, two cohorts in some; elsewhere for who asks.
  Random mirror(plan->seed, 91);
  const int64_t mode = mirror.Uniform(1, 6);
  if (mode <= 3) config.speculation = SpeculationMode::kMirror;
  if (mode == 4) config.speculation = SpeculationMode::kTwoCohorts;
  config.branch_top_k = static_cast<int32_t>(mirror.Uniform(1, 8));
  config.branch_budget = static_cast<int32_t>(mirror.OneIn(3) ? mirror.Uniform(0, 6) : mirror.Uniform(6, 64));
  config.miss_fallback = static_cast<MissFallback>(mirror.Uniform(0, 2));
  plan->exit_recall = static_cast<int32_t>(mirror.Uniform(0, 100));
  plan->exit_mute = mirror.OneIn(2) ? static_cast<int32_t>(mirror.Uniform(1, 10)) : 0;
  plan->gives_up_one_in = mirror.OneIn(2) ? static_cast<int32_t>(mirror.Uniform(2, 20)) : 0;
  plan->mixes_modes = mirror.OneIn(2);
}

PlannedWorker PlanWorker(Random* random, WorkerRole role, int index, const Plan& plan) {
  const bool verifier = role == WorkerRole::kVerifier;
  PlannedWorker worker;
  worker.seed = random->Next();
  worker.at = random->OneIn(3) ? Millis(random, 0, 1000) : absl::Microseconds(random->Uniform(0, 2000));
  worker.numerics = verifier && plan.two_numerics && index == 1 ? 1 : 0;
  worker.limits = {static_cast<int32_t>(random->Uniform(3, 10)),
                   static_cast<int32_t>(random->Uniform(4, 40)),
                   static_cast<int32_t>(random->Uniform(1, 8))};
  // The least is one request of the whole context; more than a few rarely fit.
  worker.blocks = verifier ? random->Uniform(24, random->OneIn(2) ? 36 : 100) : 1000;
  if (random->OneIn(2)) worker.step_times = {1000000, 10000};
  worker.step = verifier           ? Millis(random, 1, 30)
                : random->OneIn(5) ? absl::Microseconds(random->Uniform(5000, 40000))
                                   : absl::Microseconds(random->Uniform(100, 3000));
  return worker;
}

PlannedClient PlanClient(Random* random, const Plan& plan) {
  PlannedClient client;
  client.seed = random->Next();
  if (plan.mixes_modes) {
    Random mode(client.seed, 92);
    client.mode = mode.OneIn(2)   ? SpeculationMode::kMirror
                  : mode.OneIn(2) ? SpeculationMode::kSerial
                                  : SpeculationMode::kTwoCohorts;
  }
  client.at = random->OneIn(2) ? Millis(random, 5, 400) : Millis(random, 5, 8000);
  client.prompt_length =
      static_cast<int32_t>(random->OneIn(4) ? random->Uniform(1, 60) : random->Uniform(1, 16));
  client.max_tokens = static_cast<int32_t>(random->OneIn(5) ? 200 : random->Uniform(1, 40));
  client.ends = random->OneIn(2);
  client.speculates = !random->OneIn(6);
  if (random->OneIn(4)) client.window = static_cast<int32_t>(random->Uniform(0, 9));
  if (random->OneIn(6)) client.deadline = Millis(random, 1, random->OneIn(2) ? 500 : 8000);
  if (random->OneIn(5)) client.cancels_after = Millis(random, 0, random->OneIn(2) ? 200 : 3000);
  if (random->OneIn(12)) client.slow_after = static_cast<int32_t>(random->Uniform(1, 8));
  client.retries = random->OneIn(2);
  if (random->OneIn(25)) client.flaw = static_cast<Flaw>(random->Uniform(1, kNumFlaws - 1));
  return client;
}

FaultKind PlanKind(Random* random, WorkerRole role) {
  const bool verifier = role == WorkerRole::kVerifier;
  const int64_t luck = random->Uniform(0, 99);
  if (luck < 9) return FaultKind::kKill;
  if (luck < 16) return FaultKind::kHalfOpen;
  if (luck < 23) return FaultKind::kDrop;
  if (luck < 31) return FaultKind::kHang;
  if (luck < 38) return FaultKind::kStall;
  if (luck < 43) return FaultKind::kSlow;
  if (luck < 47) return FaultKind::kQueueFull;
  if (luck < 58) return FaultKind::kLie;
  if (luck < 72) return FaultKind::kStale;
  if (luck < 77) return FaultKind::kDrain;
  if (luck < 86) return verifier            ? FaultKind::kItemError
                        : random->OneIn(2) ? FaultKind::kEvict
                                           : FaultKind::kForget;
  if (luck < 90) return FaultKind::kBadHello;
  if (luck < 93) return FaultKind::kGone;
  if (luck < 96) return FaultKind::kStandStill;
  return FaultKind::kNewLife;
}

PlannedFault PlanFault(Random* random) {
  PlannedFault fault;
  fault.seed = random->Next();
  fault.at = random->OneIn(2) ? Millis(random, 10, 800) : Millis(random, 10, 8000);
  fault.role = random->OneIn(2) ? WorkerRole::kVerifier : WorkerRole::kDraft;
  fault.kind = PlanKind(random, fault.role);
  fault.index = static_cast<int32_t>(random->Uniform(0, 59));
  if (!random->OneIn(3)) fault.lasts = Millis(random, 10, 5000);
  return fault;
}

}  // namespace

const char* FaultName(FaultKind kind) {
  static constexpr const char* kNames[kNumFaultKinds] = {
      "kill", "half_open", "drop_connection", "hang", "stall", "slow", "queue_full", "lie", "stale",
      "drain", "item_error", "evict", "forget", "bad_hello", "all_gone", "stand_still", "new_life"};
  return kNames[static_cast<int>(kind)];
}

Plan MakePlan(uint64_t seed) {
  Plan plan;
  plan.seed = seed;
  Random random(seed);
  PlanConfig(&random, &plan);
  const int64_t num_verifiers = random.Uniform(2, 3);
  const int64_t num_drafts = random.Uniform(2, 3);
  for (int i = 0; i < num_verifiers; ++i) {
    plan.verifiers.push_back(PlanWorker(&random, WorkerRole::kVerifier, i, plan));
  }
  for (int i = 0; i < num_drafts; ++i) {
    plan.drafts.push_back(PlanWorker(&random, WorkerRole::kDraft, i, plan));
  }
  const int64_t num_clients = random.Uniform(8, 16);
  for (int64_t i = 0; i < num_clients; ++i) plan.clients.push_back(PlanClient(&random, plan));
  // At least eight good requests.
  for (int i = 0; i < 8; ++i) plan.clients[i].flaw = Flaw::kNone;
  const int64_t num_faults = random.Uniform(3, 12);
  for (int64_t i = 0; i < num_faults; ++i) plan.faults.push_back(PlanFault(&random));
  for (int i = 0; i < 2 * kMinFaults; ++i) {
    PlannedClient client = PlanClient(&random, plan);
    client.max_tokens = 60;
    client.ends = false;
    client.flaw = Flaw::kNone;
    client.deadline = absl::ZeroDuration();
    client.cancels_after = absl::InfiniteDuration();
    plan.spare_clients.push_back(client);
    PlannedFault fault = PlanFault(&random);
    fault.at = Millis(&random, 1, 20);
    plan.spare_faults.push_back(fault);
  }
  return plan;
}

std::string Describe(const Plan& plan) {
  std::string text = absl::StrCat("# seed ", plan.seed, ": ", plan.verifiers.size(), " verifiers, ",
                                  plan.drafts.size(), " drafts, ", plan.clients.size(),
                                  " clients, ", plan.faults.size(), " faults\n");
  for (const PlannedClient& client : plan.clients) {
    absl::StrAppend(&text, "# ", absl::FormatDuration(client.at), " client: prompt ",
                    client.prompt_length, ", max_tokens ", client.max_tokens,
                    client.cancels_after == absl::InfiniteDuration()
                        ? ""
                        : absl::StrCat(", cancels after ", absl::FormatDuration(client.cancels_after)),
                    client.flaw == Flaw::kNone ? "" : ", flawed", "\n");
  }
  for (const PlannedFault& fault : plan.faults) {
    absl::StrAppend(&text, "# ", absl::FormatDuration(fault.at), " fault: ", FaultName(fault.kind),
                    fault.role == WorkerRole::kVerifier ? " verifier" : " draft", "\n");
  }
  return text;
}

}  // namespace mirrorsd::sim
