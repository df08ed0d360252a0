#include "tools/simulate/simulation.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/check.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"
#include "tools/simulate/fleet/draft.h"
#include "tools/simulate/fleet/verifier.h"
#include "tools/simulate/law.h"

namespace mirrorsd::simulate {
namespace {

using scheduler::Core;
using scheduler::CoreConfig;

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr ConnectionId kFirstStream = 1'000'000;

absl::Time TimeAt(int64_t ns) {
  return absl::UnixEpoch() + absl::Hours(1) + absl::Nanoseconds(ns);
}

// The first whole nanosecond that is not before `time`.
int64_t NsUntil(absl::Time time) {
  const absl::Duration wait = time - TimeAt(0);
  return wait >= absl::Hours(24 * 365 * 100) ? kNever
                                             : absl::ToInt64Nanoseconds(absl::Ceil(wait, absl::Nanoseconds(1)));
}

CoreConfig ConfigOf(const Settings& settings) {
  CoreConfig config;
  const auto policies = scheduler::Policies();
  config.policies.assign(policies.begin(), policies.end());
  config.speculation = settings.mode;
  config.num_speculative_tokens = settings.num_speculative_tokens;
  config.branch_top_k = settings.branch_top_k;
  config.branch_budget = settings.branch_budget;
  config.miss_fallback = settings.miss_fallback;
  config.max_num_seqs = settings.max_num_seqs;
  config.max_prefill_rows_per_round = settings.max_prefill_rows_per_round;
  config.max_queued = kMaxRequests;
  config.queue_timeout = absl::Hours(24 * 365);
  return config;
}

struct Client {
  int32_t index = 0;
  int64_t at_ns = 0;
  int64_t first_ns = -1;
  int64_t last_ns = 0;
  int64_t tokens = 0;
  SpeculationStats stats;
};

class Cell {
 public:
  Cell(const Settings& settings, Watcher* watcher)
      : settings_(settings),
        watcher_(watcher),
        text_(settings.kinds, settings.seed),
        core_(ConfigOf(settings)) {}

  Figures Run();

 private:
  void Attach(ConnectionId id, WorkerRole role, Worker* worker);
  void Beat(ConnectionId id);
  void Deliver(ConnectionId id, Reports reports);
  void PlanArrivals();
  void ArriveAtRate(int32_t index);
  void Submit(int32_t index);
  void Step(const scheduler::Event& event);
  void Perform();
  void Perform(scheduler::Action action);
  void Committed(const scheduler::CommitTokens& commit);
  void End(ConnectionId stream);
  void CountLive(int64_t change);
  bool IsOver() const { return num_ended_ == settings_.workload.requests; }
  void TellTimes(Figures* figures);
  void TellVerifiers(double span_ns, Figures* figures) const;
  void TellDrafts(double span_ns, Figures* figures) const;

  const Settings& settings_;
  Watcher* const watcher_;
  const TextModel text_;
  Core core_;
  EventQueue queue_;
  std::vector<std::unique_ptr<Verifier>> verifiers_;
  std::vector<std::unique_ptr<Draft>> drafts_;
  absl::flat_hash_map<ConnectionId, Worker*> workers_;
  absl::flat_hash_map<ConnectionId, Fence> fences_;
  absl::flat_hash_map<ConnectionId, Client> clients_;
  std::vector<scheduler::Action> actions_;
  absl::flat_hash_map<ConnectionId, std::vector<WorkerCommand>> outgoing_;
  std::vector<ConnectionId> to_send_;  // whose are not empty, in order
  int32_t next_index_ = 0;  // closed loop: of the next request
  int32_t num_submitted_ = 0;
  int32_t num_ended_ = 0;
  int64_t first_arrival_ns_ = -1;
  int64_t last_end_ns_ = 0;
  // For the throughput: until when as many requests live as shall.
  int64_t steady_until_ns_ = -1;
  int64_t steady_tokens_ = 0;
  int64_t live_ = 0;
  int64_t live_since_ns_ = 0;
  double live_integral_ = 0;
  Sample speeds_;
  Figures figures_;
};

Figures Cell::Run() {
  const std::clock_t begun = std::clock();
  if (watcher_ != nullptr) watcher_->OnConfig(ConfigOf(settings_));
  const auto make = [&](auto* fleet, WorkerSpec spec, int32_t count, WorkerRole role, ConnectionId first) {
    using T = typename std::decay_t<decltype(*fleet)>::value_type::element_type;
    const std::string name = spec.name;
    for (int32_t i = 0; i < count; ++i) {
      spec.name = absl::StrCat(name, "-", i);
      spec.profile.jitter.seed += 1;
      const ConnectionId id = first + static_cast<ConnectionId>(i);
      fleet->push_back(std::make_unique<T>(
          spec, &text_, &queue_, [this, id](Reports reports) { Deliver(id, std::move(reports)); }));
      Attach(id, role, fleet->back().get());
    }
  };
  make(&verifiers_, settings_.verifier, settings_.num_verifiers, WorkerRole::kVerifier, 1);
  make(&drafts_, settings_.draft, settings_.num_drafts, WorkerRole::kDraft,
       1 + static_cast<ConnectionId>(settings_.num_verifiers));
  PlanArrivals();
  while (!IsOver()) {
    const int64_t deadline_ns = NsUntil(core_.NextDeadline());
    CHECK(queue_.next_ns() != kNever) << "nothing is pending, and requests live";
    if (deadline_ns <= queue_.next_ns()) {
      queue_.AdvanceTo(deadline_ns);
      Step(scheduler::TimePassed{});
      Perform();
    } else {
      queue_.RunNext();
    }
  }
  CountLive(0);
  figures_.mode = settings_.mode;
  figures_.counters = core_.counters();
  TellTimes(&figures_);
  figures_.cpu_s = static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC;
  return std::move(figures_);
}

void Cell::Attach(ConnectionId id, WorkerRole role, Worker* worker) {
  workers_[id] = worker;
  Step(scheduler::WorkerAttached{id, worker->MakeHello(role)});
  Perform();
  queue_.At(kSecondNs, [this, id] { Beat(id); });
}

void Cell::Beat(ConnectionId id) {
  Worker* worker = workers_.at(id);
  Deliver(id, {Heartbeat{queue_.now_ns(), worker->times().passes, worker->Blocks()}});
  queue_.At(queue_.now_ns() + kSecondNs, [this, id] { Beat(id); });
}

void Cell::Deliver(ConnectionId id, Reports reports) {
  for (scheduler::ReportItem& item : reports) {
    Step(scheduler::WorkerReported{id, fences_.at(id), std::move(item)});
  }
  Perform();
}

void Cell::PlanArrivals() {
  const Workload& load = settings_.workload;
  if (load.kind == Workload::Kind::kClosed) {
    next_index_ = std::min(load.concurrency, load.requests);
    queue_.At(0, [this, count = next_index_] {
      for (int32_t i = 0; i < count; ++i) Submit(i);
    });
  } else if (load.kind == Workload::Kind::kRate) {
    ArriveAtRate(0);
  } else {
    for (int32_t i = 0; i < load.requests; ++i) {
      queue_.At(load.trace[i].at_ns, [this, i] { Submit(i); });
    }
  }
}

void Cell::ArriveAtRate(int32_t index) {
  if (index >= settings_.workload.requests) return;
  queue_.At(queue_.now_ns() + settings_.workload.GapNs(settings_.seed, index), [this, index] {
    Submit(index);
    ArriveAtRate(index + 1);
  });
}

void Cell::Submit(int32_t index) {
  const Arrival arrival = settings_.workload.Request(settings_.seed, index);
  SubmitRequest request;
  request.request_id = absl::StrCat("r", index);
  request.vocabulary_fingerprint = "simulated";
  request.token_ids.assign(arrival.prompt_tokens, 1);
  request.sampling.seed = text_.RequestSeed(index);
  request.max_tokens = arrival.output_tokens;
  request.speculation = settings_.mode;
  const ConnectionId stream = kFirstStream + static_cast<ConnectionId>(index);
  clients_[stream] = {.index = index, .at_ns = queue_.now_ns()};
  if (first_arrival_ns_ < 0) first_arrival_ns_ = queue_.now_ns();
  CountLive(1);
  if (++num_submitted_ == settings_.workload.requests) steady_until_ns_ = queue_.now_ns();
  Step(scheduler::Submitted{stream, std::move(request)});
  Perform();
}

void Cell::Step(const scheduler::Event& event) {
  ++figures_.core_steps;
  const absl::Time now = TimeAt(queue_.now_ns());
  const size_t num_before = actions_.size();
  if (watcher_ != nullptr) watcher_->OnEvent(now, event);
  core_.Step(now, event, &actions_);
  if (watcher_ != nullptr) watcher_->OnActions(absl::MakeConstSpan(actions_).subspan(num_before));
}

// As the scheduler's actor does: once for all items of a message, and what goes to one worker is one message.
void Cell::Perform() {
  for (scheduler::Action& action : actions_) Perform(std::move(action));
  actions_.clear();
  for (const ConnectionId id : to_send_) {
    Worker* worker = workers_.at(id);
    queue_.At(queue_.now_ns() + worker->spec().one_way_ns,
              [worker, commands = std::move(outgoing_[id])]() mutable {
                worker->Receive(std::move(commands));
              });
    outgoing_[id].clear();
  }
  to_send_.clear();
}

// Nothing here steps the core.
void Cell::Perform(scheduler::Action action) {
  if (auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
    std::vector<WorkerCommand>& commands = outgoing_[send->connection];
    if (commands.empty()) to_send_.push_back(send->connection);
    commands.push_back(std::move(send->command));
  } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    Committed(*commit);
  } else if (const auto* welcome = std::get_if<scheduler::WelcomeWorker>(&action)) {
    fences_[welcome->connection] = {welcome->welcome.scheduler_epoch, welcome->welcome.incarnation};
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    const Client& client = clients_.at(fail->stream);
    ++(client.first_ns < 0 ? figures_.refused : figures_.failed);
    End(fail->stream);
  } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
    CHECK(false) << "the core closed a worker: " << close->reason;
  } else if (const auto* refuse = std::get_if<scheduler::RefuseWorker>(&action)) {
    CHECK(false) << "the core refused a worker: " << refuse->refused.message;
  }
}

void Cell::Committed(const scheduler::CommitTokens& commit) {
  Client& client = clients_.at(commit.stream);
  const int64_t now_ns = queue_.now_ns();
  const int64_t count = static_cast<int64_t>(commit.committed.token_ids.size());
  if (client.first_ns < 0) {
    client.first_ns = now_ns;
    figures_.ttft_ms.Add((now_ns - client.at_ns) / 1e6);
  } else if (count > 0) {
    figures_.token_ms.Add((now_ns - client.last_ns) / 1e6 / count, count);
  }
  client.last_ns = now_ns;
  client.tokens += count;
  figures_.output_tokens += count;
  if (steady_until_ns_ < 0 || now_ns <= steady_until_ns_) steady_tokens_ += count;
  client.stats = commit.committed.stats;
  if (commit.committed.finish == FinishReason::kNone) return;
  ++figures_.requests;
  figures_.total_ms.Add((now_ns - client.at_ns) / 1e6);
  if (client.tokens > 1 && client.last_ns > client.first_ns) {
    speeds_.Add((client.tokens - 1) * 1e9 / (client.last_ns - client.first_ns));
  }
  End(commit.stream);
}

void Cell::End(ConnectionId stream) {
  const SpeculationStats& stats = clients_.at(stream).stats;
  SpeculationStats& sum = figures_.stats;
  sum.rounds += stats.rounds;
  sum.drafted_tokens += stats.drafted_tokens;
  sum.accepted_tokens += stats.accepted_tokens;
  sum.empty_window_rounds += stats.empty_window_rounds;
  sum.branch_hits += stats.branch_hits;
  sum.branch_hit_depth_sum += stats.branch_hit_depth_sum;
  sum.branch_misses += stats.branch_misses;
  sum.ngram_window_rounds += stats.ngram_window_rounds;
  sum.held_rounds += stats.held_rounds;
  sum.max_batch = std::max(sum.max_batch, stats.max_batch);
  const auto add = [](const std::vector<int64_t>& from, std::vector<int64_t>* to) {
    if (to->size() < from.size()) to->resize(from.size());
    for (size_t i = 0; i < from.size(); ++i) (*to)[i] += from[i];
  };
  add(stats.accepted_per_position, &sum.accepted_per_position);
  add(stats.drafted_per_position, &sum.drafted_per_position);
  clients_.erase(stream);
  CountLive(-1);
  last_end_ns_ = queue_.now_ns();
  ++num_ended_;
  const bool refills = settings_.workload.kind == Workload::Kind::kClosed;
  if (refills && next_index_ < settings_.workload.requests) {
    queue_.At(queue_.now_ns(), [this, index = next_index_++] { Submit(index); });
  }
}

void Cell::TellTimes(Figures* figures) {
  const double span_ns = std::max<double>(1, last_end_ns_ - first_arrival_ns_);
  figures->virtual_s = span_ns / 1e9;
  const Workload& load = settings_.workload;
  const bool is_steady = load.kind == Workload::Kind::kClosed && load.requests >= 2 * load.concurrency;
  figures->tokens_per_second =
      is_steady ? steady_tokens_ * 1e9 / std::max<double>(1, steady_until_ns_ - first_arrival_ns_)
                : figures->output_tokens * 1e9 / span_ns;
  figures->mean_live = live_integral_ / span_ns;
  for (Sample* sample : {&figures->ttft_ms, &figures->token_ms, &figures->total_ms, &speeds_}) {
    sample->Sort();
  }
  figures->request_tokens_per_second = speeds_.Quantile(0.5);
  TellVerifiers(span_ns, figures);
  TellDrafts(span_ns, figures);
}

void Cell::TellVerifiers(double span_ns, Figures* figures) const {
  DecodeRounds sum;
  int64_t busy_ns = 0;
  for (const auto& verifier : verifiers_) {
    busy_ns += verifier->times().busy_ns;
    sum.Add(verifier->decode_rounds());
  }
  const auto mean_ms = [](int64_t ns, int64_t count) { return count > 0 ? ns / 1e6 / count : 0; };
  const auto mean = [](int64_t ns, int64_t count) {
    return count > 0 ? absl::Nanoseconds(ns / count) : absl::ZeroDuration();
  };
  figures->verifier_busy = busy_ns / span_ns / static_cast<double>(verifiers_.size());
  figures->decode_rounds = sum.rounds;
  figures->sequences_per_round = sum.rounds > 0 ? 1.0 * sum.items / sum.rounds : 0;
  figures->window_share = sum.items > 0 ? 1.0 * sum.with_window / sum.items : 0;
  figures->gap_ms = mean_ms(sum.gap_ns, sum.follow_ups);
  figures->round_ms = figures->gap_ms + mean_ms(sum.pass_ns, sum.rounds);
  scheduler::RoundPhases& phases = figures->phases;
  phases.prefix = mean(sum.prefix_ns, sum.rounds);
  phases.exit_head = mean(sum.exit_ns, sum.rounds);
  phases.suffix = mean(sum.suffix_ns, sum.rounds);
  phases.done = absl::Nanoseconds(2 * settings_.verifier.one_way_ns);
  phases.hold = mean(sum.gap_ns, sum.follow_ups) - phases.done;
}

void Cell::TellDrafts(double span_ns, Figures* figures) const {
  if (drafts_.empty()) return;
  int64_t busy_ns = 0;
  DraftCounts sum;
  for (const auto& draft : drafts_) {
    busy_ns += draft->times().busy_ns;
    sum.Add(draft->counts());
  }
  const auto ratio = [](double a, int64_t b) { return b > 0 ? a / static_cast<double>(b) : 0; };
  figures->draft_busy = busy_ns / span_ns / static_cast<double>(drafts_.size());
  figures->depth_ms = ratio(sum.depth_ns / 1e6, sum.depths);
  figures->rows_per_depth = ratio(sum.path_rows + sum.branch_rows, sum.depths);
  figures->branch_rows = ratio(sum.branch_rows, figures->stats.accepted_tokens);
  figures->phases.relay = absl::Nanoseconds(ratio(sum.relay_ns, sum.exit_rollouts));
  figures->phases.p1_residual = absl::Nanoseconds(ratio(sum.residual_ns, sum.exit_rollouts));
}

void Cell::CountLive(int64_t change) {
  live_integral_ += static_cast<double>(live_) * (queue_.now_ns() - live_since_ns_);
  live_since_ns_ = queue_.now_ns();
  live_ += change;
}

}  // namespace

Figures Simulate(const Settings& settings, Watcher* watcher) {
  Figures figures = Cell(settings, watcher).Run();
  figures.law = CompareWithLaw(settings, figures);
  return figures;
}

}  // namespace mirrorsd::simulate
