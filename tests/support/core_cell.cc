#include "tests/support/core_cell.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "scheduler/policy/policies.h"

namespace mirrorsd::testing {
namespace {

using namespace scheduler;  // NOLINT: the core's events and actions are what this file is about

constexpr ConnectionId kFirstStream = 100000;

}  // namespace

CoreCell::CoreCell(workers::VerifierSession* verifier, std::vector<workers::DraftSession*> drafts,
                   CoreCellOptions options)
    : options_(std::move(options)), random_(options_.seed) {
  CoreConfig& config = options_.config;
  config.policies.assign(Policies().begin(), Policies().end());
  // Virtual time passes as the steps go; who is silent in it is not lost.
  config.worker_timeout = absl::Hours(1);
  config.queue_timeout = absl::Hours(1);
  config.verifier_loss_timeout = absl::Hours(1);
  core_ = std::make_unique<Core>(config);
  auto first = std::make_unique<Peer>();
  first->verifier = verifier;
  first->name = absl::StrCat("v", 0);
  peers_.push_back(std::move(first));
  for (workers::DraftSession* draft : drafts) {
    auto peer = std::make_unique<Peer>();
    peer->draft = draft;
    peer->name = absl::StrCat("d", peers_.size());
    peers_.push_back(std::move(peer));
  }
  for (const auto& peer : peers_) Attach(peer.get());
}

void CoreCell::Attach(Peer* peer) {
  peer->killed = false;
  peer->inbox.clear();
  peer->connection = next_connection_++;
  if (peer->verifier != nullptr) peer->verifier->Reset();
  if (peer->draft != nullptr) peer->draft->Reset();
  Step(WorkerAttached{peer->connection, peer->verifier != nullptr
                                            ? peer->verifier->MakeHello(peer->name, "boot")
                                            : peer->draft->MakeHello(peer->name, "boot")});
}

// The stream breaks now; the session is emptied when nobody is inside it.
void CoreCell::Kill(Peer* peer) {
  ++num_kills_;
  peer->killed = true;
  peer->inbox.clear();
  const ConnectionId connection = std::exchange(peer->connection, 0);
  Step(WorkerDetached{connection, "killed"});
}

void CoreCell::Step(const Event& event) {
  now_ += absl::Microseconds(50);
  std::vector<Action> actions;
  core_->Step(now_, event, &actions);
  core_->CheckInvariants();
  core_->TakeObservations();
  for (Action& action : actions) Perform(std::move(action));
}

void CoreCell::Perform(Action action) {
  const auto peer_of = [this](ConnectionId connection) -> Peer* {
    for (const auto& peer : peers_) {
      if (peer->connection == connection) return peer.get();
    }
    return nullptr;
  };
  if (auto* send = std::get_if<SendToWorker>(&action)) {
    if (Peer* peer = peer_of(send->connection)) peer->inbox.push_back(std::move(send->command));
  } else if (const auto* welcome = std::get_if<WelcomeWorker>(&action)) {
    peer_of(welcome->connection)->fence = {welcome->welcome.scheduler_epoch,
                                           welcome->welcome.incarnation};
  } else if (const auto* close = std::get_if<CloseWorker>(&action)) {
    if (error_.empty()) error_ = absl::StrCat("closed: ", close->reason);
  } else if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
    if (error_.empty()) error_ = absl::StrCat("refused: ", refuse->refused.message);
  } else if (const auto* fail = std::get_if<FailRequest>(&action)) {
    if (error_.empty()) error_ = absl::StrCat("failed: ", fail->status.ToString());
    --num_live_;
  } else if (const auto* commit = std::get_if<CommitTokens>(&action)) {
    const Committed& committed = commit->committed;
    std::vector<TokenId>& output = outputs_[commit->stream - kFirstStream];
    CHECK_EQ(static_cast<size_t>(committed.output_index), output.size());
    output.insert(output.end(), committed.token_ids.begin(), committed.token_ids.end());
    if (committed.finish == FinishReason::kNone) return;
    AddStats(committed.stats);
    --num_live_;
  }
}

void CoreCell::AddStats(const SpeculationStats& stats) {
  stats_.rounds += stats.rounds;
  stats_.drafted_tokens += stats.drafted_tokens;
  stats_.accepted_tokens += stats.accepted_tokens;
  stats_.empty_window_rounds += stats.empty_window_rounds;
  stats_.branch_hits += stats.branch_hits;
  stats_.branch_hit_depth_sum += stats.branch_hit_depth_sum;
  stats_.branch_misses += stats.branch_misses;
  stats_.ngram_window_rounds += stats.ngram_window_rounds;
  stats_.held_rounds += stats.held_rounds;
  stats_.resumes += stats.resumes;
}

// As the owner of a core does: one item at a time.
void CoreCell::Tell(Peer* peer, WorkerReport report) {
  const auto say = [&](ReportItem item) {
    if (peer->killed) return;
    Step(WorkerReported{peer->connection, peer->fence, std::move(item)});
  };
  if (auto* done = std::get_if<VerifyDone>(&report)) {
    for (VerifyItemDone& item : done->items) {
      say(VerifyItemReport{done->round_id, std::move(item)});
    }
    say(VerifyRoundDone{done->round_id, done->times, done->blocks});
  } else if (auto* exit = std::get_if<EarlyExitReported>(&report)) {
    for (EarlyExitItem& item : exit->items) {
      say(EarlyExitItemReport{exit->round_id, std::move(item)});
    }
    say(EarlyExitRoundReport{exit->round_id, exit->sent_at_ns, exit->times});
  } else {
    std::visit(
        [&](auto&& item) {
          using T = std::decay_t<decltype(item)>;
          if constexpr (std::is_constructible_v<ReportItem, T>) say(std::move(item));
        },
        std::move(report));
  }
}

bool CoreCell::Chance(double probability) {
  return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
}

// A command taken, or a unit of work. False where there is nothing to do.
bool CoreCell::WorkOnce(Peer* peer) {
  if (peer->killed) {
    Attach(peer);
    return true;
  }
  if (!peer->inbox.empty()) {
    WorkerCommand command = std::move(peer->inbox.front());
    peer->inbox.pop_front();
    if (peer->verifier != nullptr) peer->verifier->Handle(std::move(command));
    if (peer->draft != nullptr) peer->draft->Handle(std::move(command));
    return true;
  }
  if (peer->draft == nullptr || !peer->draft->HasWork()) return false;
  peer->draft->Work([&](WorkerReport report) { Tell(peer, std::move(report)); });
  return true;
}

// The drafts get some steps, each its own number of them.
void CoreCell::RunDrafts() {
  for (size_t i = 1; i < peers_.size(); ++i) {
    if (Chance(options_.kill_draft) && !peers_[i]->killed) Kill(peers_[i].get());
    const int steps = std::uniform_int_distribution<int>(0, options_.draft_steps)(random_);
    for (int step = 0; step < steps && WorkOnce(peers_[i].get()); ++step) {
    }
  }
}

void CoreCell::RunVerifier() {
  // A request is given up after six losses in a row.
  constexpr int kMostKills = 5;
  Peer* peer = peers_[0].get();
  const auto maybe_kill = [&] {
    if (peer->killed || num_verifier_kills_ == kMostKills) return;
    if (!Chance(options_.kill_verifier)) return;
    ++num_verifier_kills_;
    Kill(peer);
  };
  RunDrafts();
  maybe_kill();
  peer->verifier->Work([&](WorkerReport report) {
    const bool is_exit = std::holds_alternative<EarlyExitReported>(report);
    Tell(peer, std::move(report));
    if (!is_exit) return;
    RunDrafts();
    maybe_kill();
  });
}

std::vector<std::vector<TokenId>> CoreCell::Run(const std::vector<CellRequest>& requests) {
  outputs_.assign(requests.size(), {});
  num_live_ = requests.size();
  for (size_t i = 0; i < requests.size(); ++i) {
    SubmitRequest request;
    request.request_id = absl::StrCat(i);
    request.token_ids = requests[i].prompt;
    request.sampling = requests[i].sampling;
    request.end_token_ids = requests[i].end_token_ids;
    request.max_tokens = requests[i].max_tokens;
    Step(Submitted{kFirstStream + i, request});
  }
  for (int steps = 0; num_live_ > 0 && error_.empty(); ++steps) {
    if (steps == 2000000) {
      error_ = "they make no progress";
      break;
    }
    Peer* verifier = peers_[0].get();
    if (WorkOnce(verifier)) continue;
    if (verifier->verifier->HasWork()) {
      RunVerifier();
      continue;
    }
    bool moved = false;
    for (size_t i = 1; i < peers_.size(); ++i) moved |= WorkOnce(peers_[i].get());
    if (moved) continue;
    now_ = std::max(now_, core_->NextDeadline());
    Step(TimePassed{});
  }
  // What the ends leave to do.
  for (bool moved = true; moved && error_.empty();) {
    moved = false;
    for (const auto& peer : peers_) moved |= WorkOnce(peer.get());
    if (peers_[0]->verifier->HasWork()) {
      RunVerifier();
      moved = true;
    }
  }
  return outputs_;
}

}  // namespace mirrorsd::testing
