// Reports that no honest worker sends now. Each is made from what the scheduler waits for at that moment, so
// that it would do the most harm; each has one outcome that is right: the worker is closed as faulty in the
// same step (lies), or nothing happens at all (reports of another life, round or rollout).

#include <algorithm>
#include <limits>
#include <utility>

#include "tests/sim/cell.h"

namespace mirrorsd::sim {
namespace {

constexpr int kMaxTries = 150;
constexpr absl::Duration kTryAgain = absl::Milliseconds(3);

// An item of the outstanding round that yields a token, or does not, or that was reported already.
const VerifyItem* FindItem(const Oracle& oracle, const Peer& peer, bool inner, bool done) {
  if (!peer.round.has_value()) return nullptr;
  for (size_t i = 0; i < peer.round->items.size(); ++i) {
    const VerifyItem& item = peer.round->items[i];
    const bool is_inner = item.is_prefill && item.end < item.committed_length;
    const auto held = oracle.held().find(item.sequence_id);
    if (held == oracle.held().end() || held->second.request == nullptr) continue;
    if (peer.done[i] == done && is_inner == inner) return &item;
  }
  return nullptr;
}

// An outcome that could be, but for its token.
VerifyItemDone WrongOutcome(const Oracle& oracle, const VerifyItem& item) {
  VerifyItemDone done;
  done.sequence_id = item.sequence_id;
  done.kv_length = item.is_prefill ? item.end : item.committed_length;
  const Request& request = *oracle.held().at(item.sequence_id).request;
  for (TokenId token = 0;; ++token) {
    const bool is_window = !item.window.empty() && item.window[0] == token;
    const bool is_right = TargetToken(request.prefix, 0) == token ||
                          TargetToken(request.prefix, 1) == token;
    if (is_window || is_right || token == kEndToken) continue;
    done.correction_token = token;
    return done;
  }
}

// A live sequence of the worker whose request is as wanted.
template <typename Wanted>
Request* FindHeld(const Oracle& oracle, const Peer& peer, SequenceId* id, Wanted wanted) {
  for (const auto& [stream, request] : oracle.requests()) {
    const bool here = peer.is_verifier() ? request->verifier == &peer : request->draft == &peer;
    if (!here || !request->live() || !wanted(*request)) continue;
    *id = peer.is_verifier() ? request->verifier_id : request->draft_id;
    return request.get();
  }
  return nullptr;
}

// A branch that is being rolled out; null if there is none.
AskedBranch* FindRolling(Request* request) {
  for (AskedBranch& branch : request->tree.branches) {
    if (!branch.answered) return &branch;
  }
  return nullptr;
}

bool Rolling(const Request& request) { return request.tree.is_busy(); }

// The next depth of a branch, with tokens that the draft did not say.
RolloutProgress WrongProgress(Request* request, const AskedBranch& branch, int32_t num_tokens) {
  RolloutProgress progress;
  progress.sequence_id = request->draft_id;
  progress.round_id = request->tree.round_id;
  progress.num_accepted = branch.num_accepted;
  progress.root_token = branch.root_token;
  progress.first_depth = branch.num_received;
  progress.token_ids.assign(num_tokens, 3);
  return progress;
}

// An item of the outstanding round whose exit is still to be told, or that wants none; with a window or without.
const VerifyItem* FindExitItem(const Oracle& oracle, const Peer& peer, bool asked, bool has_window) {
  if (!peer.round.has_value() || peer.exit_over) return nullptr;
  for (size_t i = 0; i < peer.round->items.size(); ++i) {
    const VerifyItem& item = peer.round->items[i];
    const bool told = std::any_of(peer.exits.begin(), peer.exits.end(), [&](const EarlyExitItem& exit) {
      return exit.sequence_id == item.sequence_id;
    });
    const auto held = oracle.held().find(item.sequence_id);
    const bool live = held != oracle.held().end() && held->second.request != nullptr;
    if (live && !told && !peer.done[i] && (item.branch_top_k > 0) == asked &&
        (!has_window || !item.window.empty())) {
      return &item;
    }
  }
  return nullptr;
}

// One that could be: its candidates are wrong, and say that they are certain.
scheduler::EarlyExitItemReport WrongExit(RoundId round, const VerifyItem& item) {
  scheduler::EarlyExitItemReport report{round, {.sequence_id = item.sequence_id}};
  for (size_t row = 0; row <= item.window.size(); ++row) {
    EarlyExitRow wrong;
    const bool drafted = row < item.window.size();
    if (drafted) wrong.drafted_score = -std::numeric_limits<float>::max();
    const TokenId token = drafted && item.window[row] == 3 ? 4 : 3;
    if (item.branch_top_k > 0) wrong.candidates = {{token, std::numeric_limits<float>::max()}};
    report.item.rows.push_back(std::move(wrong));
  }
  return report;
}

}  // namespace

void Cell::TryLie(const PlannedFault& fault, int tries) {
  if (quiet_ || !violation_.empty() || tries > kMaxTries) return;
  const bool verifier = fault.role == WorkerRole::kVerifier;
  Random random(fault.seed, 1);
  Lie lie = static_cast<Lie>(verifier ? random.Uniform(0, 15) : random.Uniform(13, 24));
  if (verifier && random.OneIn(3)) {
    lie = static_cast<Lie>(random.Uniform(static_cast<int64_t>(Lie::kExitNotAsked), kNumLies - 1));
  }
  if (core_->NextDeadline() <= CoreNow()) StepOnce(scheduler::TimePassed{}, false);
  for (const auto& host : hosts_) {
    Connection* connection = host->role == fault.role ? Alive(host.get()) : nullptr;
    if (connection == nullptr) continue;
    if (verifier ? TellLie(lie, connection, &random) : TellDraftLie(lie, connection, &random)) return;
  }
  clock_.After(kTryAgain, [this, &fault, tries] { TryLie(fault, tries + 1); });
}

bool Cell::SayFaulty(Connection* connection, ReportItem item, Lie lie) {
  oracle_.ExpectFaulty(connection->id);
  connection->peer->fault = FaultKind::kLie;
  StepOnce(scheduler::WorkerReported{connection->id, connection->peer->fence, std::move(item)}, false);
  if (violation_.empty()) coverage_->Count(lie);
  return true;
}

// Of what the early exit foresees.
bool Cell::TellExitLie(Lie lie, Connection* connection) {
  const Peer& peer = *connection->peer;
  const bool asked = lie != Lie::kExitNotAsked;
  const bool drafted = lie == Lie::kExitDrafted || lie == Lie::kExitDraftedScore;
  if (lie == Lie::kExitsFutureRound) {
    return SayFaulty(connection, scheduler::EarlyExitRoundReport{oracle_.next_round_id() + 5, 0, {}}, lie);
  }
  const VerifyItem* item = FindExitItem(oracle_, peer, asked, drafted);
  if (item == nullptr) return false;
  scheduler::EarlyExitItemReport report = WrongExit(peer.round->round_id, *item);
  EarlyExitRow& row = report.item.rows.front();
  if (lie == Lie::kExitRows) report.item.rows.push_back(report.item.rows.back());
  if (lie == Lie::kExitDraftedScore) row.drafted_score.reset();
  if (lie == Lie::kExitTooMany) row.candidates.resize(item->branch_top_k + 1, {5, 0.0f});
  if (lie == Lie::kExitBadToken) row.candidates[0].token = peer.round->round_id % 2 == 0 ? -1 : kVocabulary;
  if (lie == Lie::kExitDrafted) row.candidates[0].token = item->window[0];
  if (lie == Lie::kExitUnknownItem) report.item.sequence_id = 0;
  if (lie == Lie::kExitFutureRound) report.round_id = oracle_.next_round_id() + 5;
  return SayFaulty(connection, report, lie);
}

bool Cell::TellLie(Lie lie, Connection* connection, Random* random) {
  if (lie >= Lie::kExitNotAsked) return TellExitLie(lie, connection);
  const Peer& peer = *connection->peer;
  SequenceId id = 0;
  const auto outcome = [&](bool inner) -> std::optional<scheduler::VerifyItemReport> {
    const VerifyItem* item = FindItem(oracle_, peer, inner, false);
    if (item == nullptr) return std::nullopt;
    return scheduler::VerifyItemReport{peer.round->round_id, WrongOutcome(oracle_, *item)};
  };
  auto report = outcome(lie == Lie::kInnerCorrection);
  const auto say = [&] { return report.has_value() && SayFaulty(connection, *report, lie); };
  switch (lie) {
    case Lie::kTooManyAccepted:
      if (report.has_value()) report->item.num_accepted = 99;
      return say();
    case Lie::kNegativeAccepted:
      if (report.has_value()) report->item.num_accepted = -1;
      return say();
    case Lie::kWrongKvLength:
      if (report.has_value()) report->item.kv_length += random->OneIn(2) ? 1 : -1;
      return say();
    case Lie::kNoCorrection:
      if (report.has_value()) report->item.correction_token.reset();
      return say();
    case Lie::kInnerCorrection:
      return say();
    case Lie::kBadCorrection:
      if (report.has_value()) report->item.correction_token = random->OneIn(2) ? -1 : kVocabulary;
      return say();
    case Lie::kTooFewAccepted: {
      const VerifyItem* item = FindItem(oracle_, peer, false, false);
      if (item == nullptr || item->window.empty()) return false;
      report->item.correction_token = item->window[0];
      return say();
    }
    case Lie::kFutureRound:
      if (report.has_value()) report->round_id = oracle_.next_round_id() + 5;
      return say();
    case Lie::kUnknownItem:
      if (report.has_value()) report->item.sequence_id = 0;
      return say();
    case Lie::kDoneEarly:
      if (!report.has_value()) return false;
      return SayFaulty(connection, scheduler::VerifyRoundDone{peer.round->round_id, {}, {}}, lie);
    case Lie::kCachedTooLong: {
      const auto starting = [](const Request& r) { return r.life == Life::kStarting; };
      const Request* request = FindHeld(oracle_, peer, &id, starting);
      if (request == nullptr) return false;
      return SayFaulty(connection, SequenceStarted{id, request->total_length}, lie);
    }
    case Lie::kUnknownSequence:
      return SayFaulty(connection, SequenceStarted{oracle_.next_sequence_id() + 100, 0}, lie);
    case Lie::kEndedAlone:
      if (FindHeld(oracle_, peer, &id, [](const Request&) { return true; }) == nullptr) return false;
      return SayFaulty(connection, SequenceEnded{id, {}}, lie);
    case Lie::kBadBlocks:
      return SayFaulty(connection, Heartbeat{0, 0, {5, 9, 9}}, lie);
    case Lie::kHelloTwice:
      oracle_.ExpectFaulty(connection->id);
      StepOnce(scheduler::WorkerAttached{connection->id, connection->worker->hello()}, false);
      if (violation_.empty()) coverage_->Count(lie);
      return true;
    default:
      return SayFaulty(connection, RolloutProgress{}, Lie::kWrongRole);
  }
}

bool Cell::TellDraftLie(Lie lie, Connection* connection, Random* random) {
  const Peer& peer = *connection->peer;
  SequenceId id = 0;
  Request* rolling = FindHeld(oracle_, peer, &id, Rolling);
  RolloutProgress progress;
  if (rolling != nullptr) progress = WrongProgress(rolling, *FindRolling(rolling), 1);
  const auto say = [&] { return rolling != nullptr && SayFaulty(connection, progress, lie); };
  switch (lie) {
    case Lie::kBadBlocks:
      return SayFaulty(connection, Heartbeat{0, 0, {-1, 0, 0}}, lie);
    case Lie::kHelloTwice:
      return TellLie(lie, connection, random);
    case Lie::kWrongRole:
      return SayFaulty(connection, scheduler::VerifyRoundDone{}, lie);
    case Lie::kTooManyTokens:
      progress.token_ids.resize(kContext, 3);
      return say();
    case Lie::kWrongRoot:
      // Where the draft may name no root of its own (any more).
      if (rolling == nullptr || rolling->tree.own_roots[progress.num_accepted] > 0) return false;
      do {
        progress.root_token = (progress.root_token + 1) % kVocabulary;
      } while (rolling->tree.Find(progress.num_accepted, progress.root_token) != nullptr);
      return say();
    case Lie::kWrongRow:
      progress.num_accepted =
          random->OneIn(2) ? -1 : static_cast<int32_t>(rolling == nullptr ? 0 : rolling->tree.window.size()) + 1;
      return say();
    case Lie::kBadOwnRoot:
      if (rolling == nullptr) return false;
      for (const auto& [num_accepted, left] : rolling->tree.own_roots) {
        if (left == 0) continue;
        progress.num_accepted = num_accepted;
        progress.root_token = random->OneIn(2) ? -1 : kDraftVocabulary;
        progress.first_depth = 0;
        return say();
      }
      return false;
    case Lie::kSkippedDepth:
      ++progress.first_depth;
      return say();
    case Lie::kBadDraftToken:
      progress.token_ids = {random->OneIn(2) ? -1 : kDraftVocabulary};
      return say();
    case Lie::kFutureRollout:
      progress.round_id = oracle_.next_round_id() + 5;
      return say();
    case Lie::kDraftKvTooLong:
    case Lie::kUnknownState:
    default: {
      if (FindHeld(oracle_, peer, &id, [](const Request&) { return true; }) == nullptr) return false;
      SequenceState state{id, DraftSequenceState::kReady, 0, connection->worker->Blocks()};
      if (lie == Lie::kDraftKvTooLong) state.draft_kv_length = 2 * kContext;
      if (lie == Lie::kUnknownState) state.state = static_cast<DraftSequenceState>(9);
      return SayFaulty(connection, state, lie);
    }
  }
}

// ---- of another life, round or rollout ----------------------------------------------------------------

void Cell::TryStale(const PlannedFault& fault, int tries) {
  if (quiet_ || !violation_.empty() || tries > kMaxTries) return;
  const bool verifier = fault.role == WorkerRole::kVerifier;
  Random random(fault.seed, 2);
  static constexpr Stale kOfVerifier[] = {
      Stale::kOutcomeFence, Stale::kDoneFence, Stale::kStartedFence, Stale::kEndedFence,
      Stale::kBeatFence, Stale::kOutcomeRound, Stale::kDoneRound, Stale::kOutcomeAgain,
      Stale::kStartedAgain, Stale::kEndedAgain, Stale::kExitFence, Stale::kExitRound,
      Stale::kExitsRound, Stale::kExitAgain, Stale::kExitLate};
  static constexpr Stale kOfDraft[] = {Stale::kProgressFence, Stale::kAbsentFence,
                                       Stale::kProgressRound, Stale::kProgressAgain,
                                       Stale::kCancelAgain, Stale::kProgressAnswered};
  const Stale stale = verifier ? kOfVerifier[random.Uniform(0, 14)] : kOfDraft[random.Uniform(0, 5)];
  if (core_->NextDeadline() <= CoreNow()) StepOnce(scheduler::TimePassed{}, false);
  for (const auto& host : hosts_) {
    Connection* connection = host->role == fault.role ? Alive(host.get()) : nullptr;
    if (connection == nullptr) continue;
    if (verifier ? SayStale(stale, connection, &random)
                 : SayDraftStale(stale, connection, &random)) {
      return;
    }
  }
  clock_.After(kTryAgain, [this, &fault, tries] { TryStale(fault, tries + 1); });
}

bool Cell::SayNothing(Connection* connection, Fence fence, ReportItem item, Stale stale) {
  oracle_.ExpectNothing();
  StepOnce(scheduler::WorkerReported{connection->id, fence, std::move(item)}, false);
  if (violation_.empty()) coverage_->Count(stale);
  return true;
}

namespace {

// Of an earlier life of the scheduler, of the worker before it, or of no one yet.
Fence OtherFence(Fence fence, Random* random) {
  switch (random->Uniform(0, 3)) {
    case 0: --fence.scheduler_epoch; break;
    case 1: --fence.incarnation; break;
    case 2: ++fence.incarnation; break;
    default: ++fence.scheduler_epoch; break;
  }
  return fence;
}

}  // namespace

// An exit's report of another life or round, or of what is known already.
bool Cell::SayExitStale(Stale stale, Connection* connection, Random* random) {
  const Peer& peer = *connection->peer;
  if (stale == Stale::kExitsRound) {
    if (peer.last_round == 0) return false;
    return SayNothing(connection, peer.fence, scheduler::EarlyExitRoundReport{peer.last_round, 0, {}}, stale);
  }
  if (!peer.round.has_value()) return false;
  const VerifyItem* item = FindExitItem(oracle_, peer, /*asked=*/true, /*has_window=*/false);
  if (stale == Stale::kExitAgain || stale == Stale::kExitLate) {
    item = nullptr;
    for (size_t i = 0; i < peer.round->items.size(); ++i) {
      const VerifyItem& one = peer.round->items[i];
      const bool told = std::any_of(peer.exits.begin(), peer.exits.end(), [&](const EarlyExitItem& exit) {
        return exit.sequence_id == one.sequence_id;
      });
      if (one.branch_top_k > 0 && (stale == Stale::kExitAgain ? told : static_cast<bool>(peer.done[i]))) item = &one;
    }
  }
  if (item == nullptr) return false;
  const bool round = stale == Stale::kExitRound;
  if (round && peer.last_round == 0) return false;
  const Fence fence = stale == Stale::kExitFence ? OtherFence(peer.fence, random) : peer.fence;
  return SayNothing(connection, fence, WrongExit(round ? peer.last_round : peer.round->round_id, *item), stale);
}

bool Cell::SayStale(Stale stale, Connection* connection, Random* random) {
  if (stale >= Stale::kExitFence) return SayExitStale(stale, connection, random);
  const Peer& peer = *connection->peer;
  const Fence other = OtherFence(peer.fence, random);
  SequenceId id = 0;
  const VerifyItem* item = FindItem(oracle_, peer, false, stale == Stale::kOutcomeAgain);
  const RoundId round = peer.round.has_value() ? peer.round->round_id : 0;
  switch (stale) {
    case Stale::kOutcomeFence:
      if (item == nullptr) return false;
      return SayNothing(connection, other,
                        scheduler::VerifyItemReport{round, WrongOutcome(oracle_, *item)}, stale);
    case Stale::kDoneFence:
      if (round == 0) return false;
      return SayNothing(connection, other, scheduler::VerifyRoundDone{round, {}, {}}, stale);
    case Stale::kStartedFence:
      if (FindHeld(oracle_, peer, &id, [](const Request& r) { return r.life == Life::kStarting; }) ==
          nullptr) {
        return false;
      }
      return SayNothing(connection, other, SequenceStarted{id, 0}, stale);
    case Stale::kEndedFence:
      for (const auto& [stream, request] : oracle_.requests()) {
        if (request->verifier == &peer && request->live()) id = request->verifier_id;
      }
      if (id == 0) return false;
      return SayNothing(connection, other, SequenceEnded{id, {}}, stale);
    case Stale::kBeatFence:
      return SayNothing(connection, other, Heartbeat{0, 0, {1, 2, 3}}, stale);
    case Stale::kOutcomeRound:
      if (item == nullptr || peer.last_round == 0) return false;
      return SayNothing(connection, peer.fence,
                        scheduler::VerifyItemReport{peer.last_round, WrongOutcome(oracle_, *item)},
                        stale);
    case Stale::kDoneRound:
      if (round == 0 || peer.last_round == 0) return false;
      return SayNothing(connection, peer.fence,
                        scheduler::VerifyRoundDone{peer.last_round, {}, {}}, stale);
    case Stale::kOutcomeAgain:
      if (item == nullptr) return false;
      return SayNothing(connection, peer.fence,
                        scheduler::VerifyItemReport{round, WrongOutcome(oracle_, *item)}, stale);
    case Stale::kStartedAgain:
      if (FindHeld(oracle_, peer, &id, [](const Request& r) { return r.life > Life::kStarting; }) ==
          nullptr) {
        return false;
      }
      return SayNothing(connection, peer.fence, SequenceStarted{id, 0}, stale);
    default:
      if (peer.last_released == 0) return false;
      return SayNothing(connection, peer.fence, SequenceEnded{peer.last_released, {}},
                        Stale::kEndedAgain);
  }
}

bool Cell::SayDraftStale(Stale stale, Connection* connection, Random* random) {
  const Peer& peer = *connection->peer;
  const Fence other = OtherFence(peer.fence, random);
  SequenceId id = 0;
  Request* rolling = FindHeld(oracle_, peer, &id, Rolling);
  switch (stale) {
    case Stale::kProgressFence:
      if (rolling == nullptr) return false;
      return SayNothing(connection, other, WrongProgress(rolling, *FindRolling(rolling), 1), stale);
    case Stale::kAbsentFence:
      if (FindHeld(oracle_, peer, &id, [](const Request&) { return true; }) == nullptr) return false;
      return SayNothing(connection, other, SequenceState{id, DraftSequenceState::kAbsent, 0, {}},
                        stale);
    case Stale::kProgressRound: {
      if (rolling == nullptr || rolling->tree.round_id <= 1) return false;
      RolloutProgress progress = WrongProgress(rolling, *FindRolling(rolling), 1);
      --progress.round_id;
      return SayNothing(connection, peer.fence, progress, stale);
    }
    case Stale::kProgressAgain: {
      if (rolling == nullptr || FindRolling(rolling)->num_received == 0) return false;
      RolloutProgress progress = WrongProgress(rolling, *FindRolling(rolling), 1);
      progress.first_depth = 0;
      return SayNothing(connection, peer.fence, progress, stale);
    }
    case Stale::kProgressAnswered: {
      Request* request = FindHeld(oracle_, peer, &id, [](const Request& one) {
        return std::any_of(one.tree.branches.begin(), one.tree.branches.end(),
                           [](const AskedBranch& branch) { return branch.answered; });
      });
      if (request == nullptr) return false;
      for (const AskedBranch& branch : request->tree.branches) {
        if (!branch.answered) continue;
        return SayNothing(connection, peer.fence, WrongProgress(request, branch, 1), stale);
      }
      return false;
    }
    default:
      for (const auto& [stream, request] : oracle_.requests()) {
        if (request->live() || request->life == Life::kNew) continue;
        oracle_.ExpectNothing();
        StepOnce(scheduler::Cancelled{stream}, false);
        if (violation_.empty()) coverage_->Count(Stale::kCancelAgain);
        return true;
      }
      return false;
  }
}

}  // namespace mirrorsd::sim
