// What goes to the workers: greetings, closings, commands.

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/sim/oracle/oracle.h"

namespace mirrorsd::sim {

void Oracle::SawWelcome(const scheduler::WelcomeWorker& welcome) {
  Peer* peer = FindPeer(welcome.connection);
  if (peer == nullptr || peer->welcomed || peer->closed) return Violation("a second greeting");
  if (welcome.welcome.scheduler_epoch != epoch_ ||
      welcome.welcome.incarnation <= last_incarnation_) {
    Violation("a fence that is not new");
  }
  last_incarnation_ = welcome.welcome.incarnation;
  peer->welcomed = true;
  peer->fence = {welcome.welcome.scheduler_epoch, welcome.welcome.incarnation};
  peer->heard_at = peer->attached_at = peer->moved_at = now_;
  ++num_attached_[peer->is_verifier() ? 0 : 1];
  coverage_->Count(peer->is_verifier() ? Row::kVerifierAttached : Row::kDraftAttached);
  if (peer->is_verifier()) {
    verifier_ever_ = true;
  } else {
    num_drafts_missing_ = std::max(0, num_drafts_missing_ - 1);
  }
}

void Oracle::SawRefusal(const scheduler::RefuseWorker& refuse) {
  Peer* peer = FindPeer(refuse.connection);
  if (peer == nullptr || peer->closed) return Violation("a refusal to nobody");
  const std::string& reason = refuse.refused.reason;
  const Hello& hello = peer->hello;
  const bool odd_vocabulary = hello.vocabulary_fingerprint != "vocabulary";
  const bool odd_model = peer->is_verifier() && hello.model_fingerprint != "target";
  // Where the cell is told nothing, the first verifier decides, and it may be the odd one.
  const bool fair =
      reason == "SCHEMA_MISMATCH"       ? hello.schema_revision != kSchemaRevision
      : reason == "VOCABULARY_MISMATCH" ? odd_vocabulary || plan_.config.vocabulary_fingerprint.empty()
      : reason == "MODEL_MISMATCH"      ? odd_model || plan_.config.model_fingerprint.empty()
      : reason == "INVALID_HELLO"       ? hello.context_length < 1
      : reason == "NAME_IN_USE"         ? refuse.refused.retryable && NameIsInUse(hello)
                                        : false;
  if (!fair) Violation(absl::StrCat("an unfair refusal: ", reason));
  if (reason == "NAME_IN_USE") coverage_->Count(Row::kNameInUse);
  if (peer->fault == FaultKind::kBadHello && reason != "NAME_IN_USE") {
    coverage_->Count(FaultKind::kBadHello, hello.role);
    peer->fault.reset();
  }
  if (!peer->welcomed) {
    peer->closed = true;
    return;
  }
  // A draft that was there before the first verifier: let go, not lost.
  if (peer->num_live > 0) Violation("a refusal to a worker with sequences");
  if (!peer->draining) ++num_draining_[1];
  peer->draining = true;
  Lose(peer);
}

// By another process that is attached and was heard of lately.
bool Oracle::NameIsInUse(const Hello& hello) const {
  return std::any_of(peers_.begin(), peers_.end(), [&](const auto& entry) {
    const Peer& peer = *entry.second;
    return peer.welcomed && !peer.closed && peer.hello.name == hello.name &&
           peer.hello.process_id != hello.process_id &&
           now_ - std::max(peer.heard_at, stood_still_at_) < plan_.config.worker_timeout / 2;
  });
}

bool Oracle::IsFairClose(const Peer& peer, const std::string& reason) {
  const scheduler::CoreConfig& config = plan_.config;
  if (absl::StartsWith(reason, "faulty")) return expectation_ == Expectation::kFaulty;
  if (absl::StartsWith(reason, "no heartbeat")) {
    // A report that comes with the deadline comes too late.
    const absl::Time heard = reporter_ == &peer ? heard_before_ : peer.heard_at;
    return now_ - heard >= config.worker_timeout;
  }
  // What it reports in the very step of its deadline comes too late, too.
  if (joined_ && reporter_ == &peer) return true;
  if (absl::StartsWith(reason, "a round took longer")) {
    return peer.round.has_value() && now_ - peer.round_at >= config.min_round_timeout;
  }
  if (absl::StartsWith(reason, "a sequence was not started")) {
    return std::any_of(requests_.begin(), requests_.end(), [&](const auto& entry) {
      const Request& request = *entry.second;
      return request.verifier == &peer && request.life == Life::kStarting &&
             now_ - request.life_since >= config.min_round_timeout;
    });
  }
  if (absl::StartsWith(reason, "a newer worker")) {
    const auto* attached = std::get_if<scheduler::WorkerAttached>(event_);
    return attached != nullptr && attached->hello.name == peer.hello.name;
  }
  if (absl::StartsWith(reason, "its outbound queue")) {
    const auto* full = std::get_if<scheduler::WorkerQueueFull>(event_);
    return full != nullptr && full->connection == peer.id;
  }
  return false;
}

void Oracle::SawClose(const scheduler::CloseWorker& close) {
  Peer* peer = FindPeer(close.connection);
  if (peer == nullptr || peer->closed) return Violation("closed twice");
  if (!IsFairClose(*peer, close.reason)) {
    Violation(absl::StrCat("an unfair close of ", peer->hello.name, ": ", close.reason));
  }
  if (close.connection == expected_connection_) expected_seen_ = true;
  if (absl::StartsWith(close.reason, "no heartbeat")) coverage_->Count(Row::kHungSilent);
  if (absl::StartsWith(close.reason, "a round took longer")) coverage_->Count(Row::kHungRound);
  if (absl::StartsWith(close.reason, "a sequence was not")) coverage_->Count(Row::kHungStart);
  if (absl::StartsWith(close.reason, "a newer worker")) coverage_->Count(Row::kReplaced);
  Lose(peer);
}

// It goes, or takes nothing new: for who waits, the time without a verifier begins here.
void Oracle::NoteServed(const Peer& peer) {
  for (auto& [stream, request] : requests_) {
    if (request->life == Life::kWaiting && MayServe(peer, *request)) request->served_at = now_;
  }
}

// What it held is void: requests at a verifier wait for another, a draft's go on without.
void Oracle::Lose(Peer* peer) {
  const int role = peer->is_verifier() ? 0 : 1;
  NoteServed(*peer);
  peer->closed = true;
  if (peer->fault.has_value()) coverage_->Count(*peer->fault, peer->hello.role);
  peer->fault.reset();
  if (!peer->welcomed) return;
  const bool lost = !peer->draining || peer->num_live > 0;
  --num_attached_[role];
  if (peer->draining) --num_draining_[role];
  if (lost) coverage_->Count(role == 0 ? Row::kVerifierLost : Row::kDraftLost);
  if (lost && peer->draining) coverage_->Count(Row::kDrainLost);
  if (!lost) coverage_->Count(role == 0 ? Row::kVerifierDrained : Row::kDraftDrained);
  if (lost && role == 1) ++num_drafts_missing_;
  if (role == 1) saw_late_draft_go_ = true;
  for (auto& [stream, request] : requests_) {
    if (request->verifier == peer) {
      request->verifier = nullptr;
      request->left = 'l';
      request->last_verifier = peer->hello.name;
      ++request->losses;
      if (expected_commit_ == request.get()) expected_commit_ = nullptr;
      if (request->tree.is_busy() && IsMirror(*request)) coverage_->Count(Row::kVerifierLostBusy);
      if (request->live()) Move(request.get(), Life::kWaiting);
    }
    if (request->draft == peer) {
      if (request->tree.is_busy()) coverage_->Count(Row::kDraftLostBusy);
      request->draft = nullptr;
      request->draft_lost = true;
      request->tree = {};
      SetDraftState(request.get(), DraftSequenceState::kAbsent,
                    request->draft_state == DraftSequenceState::kReady     ? Row::kReadyLost
                    : request->draft_state == DraftSequenceState::kEvicted ? Row::kEvictedAbsent
                                                                           : Row::kCatchingUpAbsent);
    }
  }
  absl::erase_if(held_, [peer](const auto& entry) { return entry.second.peer == peer; });
  peer->num_live = peer->num_ending = 0;
  if (num_live() > 0 && num_attached_[role] == 0) {
    coverage_->Count(role == 0 ? Row::kAllVerifiersGone : Row::kAllDraftsGone);
  }
}

void Oracle::Release(SequenceId id) {
  Peer* peer = held_.at(id).peer;
  --peer->num_ending;
  peer->last_released = id;
  held_.erase(id);
}

void Oracle::SawSend(const scheduler::SendToWorker& send) {
  Peer* peer = FindPeer(send.connection);
  if (peer == nullptr || peer->closed || !peer->welcomed) {
    return Violation("a command to a closed worker");
  }
  if (peer->fence != send.fence) return Violation("a command with a wrong fence");
  if (const auto* start = std::get_if<StartSequence>(&send.command)) {
    SawStart(peer, *start, send.stream);
  } else if (const auto* append = std::get_if<AppendTokens>(&send.command)) {
    Request* request = FindLive(append->sequence_id);
    if (request == nullptr) return Violation("tokens for a sequence that is not there");
    for (size_t i = 0; i < append->token_ids.size(); ++i) {
      const size_t at = append->offset + i;
      const size_t prompt = request->submit.token_ids.size();
      const TokenId token =
          at < prompt ? request->submit.token_ids[at] : request->output.at(at - prompt);
      if (token != append->token_ids[i]) return Violation("tokens that the request does not have");
    }
  } else if (const auto* end = std::get_if<EndSequence>(&send.command)) {
    SawEnd(peer, *end);
  } else if (const auto* verify = std::get_if<StartVerify>(&send.command)) {
    SawVerify(peer, *verify);
  } else if (const auto* rollout = std::get_if<StartRollout>(&send.command)) {
    SawRollout(peer, *rollout);
  }
}

void Oracle::SawStart(Peer* peer, const StartSequence& start, ConnectionId stream) {
  Request* request = FindRequest(stream);
  if (request == nullptr || !(request->live() || request->life == Life::kNew)) {
    return Violation("a sequence of no request");
  }
  if (request->life == Life::kNew) Move(request, Life::kWaiting);
  if (start.sequence_id < next_sequence_id_) Violation("a sequence id for the second time");
  next_sequence_id_ = start.sequence_id + 1;
  held_[start.sequence_id] = {.request = request, .peer = peer};
  ++peer->num_live;
  if (NumHeld(*peer) > peer->hello.limits.max_sequences) {
    Violation("more sequences than the worker takes");
  }
  // One that drains takes back what it had to give up.
  const bool comes_back = peer->is_verifier() && request->last_incarnation == peer->fence.incarnation;
  if (peer->draining && !comes_back) Violation("a new sequence for a draining worker");
  if (start.prompt_length != static_cast<int32_t>(request->submit.token_ids.size()) ||
      start.total_length != request->length() || start.sampling != request->submit.sampling ||
      start.end_token_ids != request->submit.end_token_ids) {
    Violation("a sequence that is not the request's");
  }
  if (peer->is_verifier()) return SawStartAtVerifier(peer, start, request);
  if (request->draft != nullptr) Violation("two drafts for a request");
  request->draft = peer;
  request->draft_id = start.sequence_id;
  request->tree = {};
  SetDraftState(request, DraftSequenceState::kCatchingUp, Row::kAbsentCatchingUp);
}

void Oracle::SawStartAtVerifier(Peer* peer, const StartSequence& start, Request* request) {
  if (request->life != Life::kWaiting) Violation("a request at two verifiers");
  if (!request->output.empty() && request->numerics_id != peer->hello.numerics_id) {
    Violation("resumed on a verifier of another numerics_id");
  }
  for (const auto& [stream, other] : requests_) {
    if (request->num_places > 0 || other->life != Life::kWaiting) continue;
    // Those that had a place go first, where they may go; then in the order of coming.
    const bool first = other->num_places == 0
                           ? other->ordinal < request->ordinal
                           : other->left != 'e' && MayServe(*peer, *other);
    if (first) Violation(absl::StrCat("stream ", stream, " is overtaken"));
  }
  if (request->num_places > 0 && request->last_incarnation != peer->fence.incarnation) {
    ++request->resumes;
  }
  request->last_incarnation = peer->fence.incarnation;
  request->verifier = peer;
  request->verifier_id = start.sequence_id;
  request->total_length = start.total_length;
  request->prefilled = 0;
  request->decided_round = 0;
  if (peer->num_live == 1) peer->moved_at = now_;
  Move(request, Life::kStarting);
}

// What is ending counts until the worker says so or its time is over.
int32_t Oracle::NumHeld(const Peer& peer) const {
  int32_t num = peer.num_live + peer.num_ending;
  if (num <= peer.hello.limits.max_sequences) return num;
  for (const auto& [id, held] : held_) {
    const bool over = held.request == nullptr && now_ - held.ended_at >= plan_.config.end_timeout;
    if (held.peer == &peer && over) --num;
  }
  return num;
}

bool Oracle::MayServe(const Peer& peer, const Request& request) const {
  const bool open = !peer.draining || request.last_incarnation == peer.fence.incarnation;
  const bool equal = request.output.empty() || request.numerics_id == peer.hello.numerics_id;
  return peer.is_verifier() && peer.welcomed && !peer.closed && open && equal;
}

void Oracle::SawEnd(Peer* peer, const EndSequence& end) {
  const auto found = held_.find(end.sequence_id);
  if (found == held_.end() || found->second.peer != peer || found->second.request == nullptr) {
    return Violation("an end of a sequence that is not there");
  }
  Request* request = std::exchange(found->second.request, nullptr);
  found->second.ended_at = now_;
  --peer->num_live;
  ++peer->num_ending;
  if (!peer->is_verifier()) {
    const bool ended = !request->live();
    if (!ended && request->draft_state != DraftSequenceState::kAbsent) {
      Violation("a live request leaves its draft");
    }
    if (ended && request->draft_state != DraftSequenceState::kAbsent) {
      coverage_->Count(request->draft_state == DraftSequenceState::kReady     ? Row::kReadyAbsent
                       : request->draft_state == DraftSequenceState::kEvicted ? Row::kEvictedAbsent
                                                                              : Row::kCatchingUpAbsent);
    }
    request->draft = nullptr;
    request->draft_state = DraftSequenceState::kAbsent;
    request->tree = {};
    return;
  }
  request->verifier = nullptr;
  if (!request->live()) return;
  // It goes on later: its item failed, or its place was wanted.
  if (item_of_ == request && !request->error.empty()) {
    request->left = 'e';
  } else {
    Preempted(peer, request);
  }
  Move(request, Life::kWaiting);
}

// Blocks ran short: the youngest gives up its place, and only where all could not go on by one row.
void Oracle::Preempted(Peer* peer, Request* request) {
  int64_t blocks = 0;
  bool oldest = true;
  const auto blocks_of = [](int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; };
  for (const auto& [stream, other] : requests_) {
    const bool here = other->verifier == peer && other->placed();
    if (!here && other.get() != request) continue;
    blocks += blocks_of(other->length());
    if (other->ordinal > request->ordinal) Violation("a request is preempted that is not the youngest");
    if (other->ordinal < request->ordinal) oldest = false;
  }
  if (oldest) Violation("the oldest is preempted");
  if (blocks <= peer->hello.blocks.total) Violation("a request is sent away without need");
  if (peer->round.has_value()) Violation("a request is preempted in a round");
  request->left = 'p';
  coverage_->Count(Row::kPreempted);
}

void Oracle::SawVerify(Peer* peer, const StartVerify& verify) {
  if (peer->round.has_value()) Violation("two rounds at once in serial speculation");
  if (verify.round_id < next_round_id_) Violation("a round id for the second time");
  next_round_id_ = verify.round_id + 1;
  peer->round = verify;
  peer->done.assign(verify.items.size(), false);
  peer->num_done = 0;
  peer->exits.clear();
  peer->exit_over = false;
  peer->num_branches = 0;
  peer->round_at = peer->moved_at = now_;
  int64_t rows = 0;
  for (const VerifyItem& item : verify.items) rows += CheckItem(peer, item);
  CoverShrunk(*peer, rows);
  if (rows > peer->hello.limits.max_rows) Violation("more rows than the verifier takes");
}

// Rows were there, and windows are shorter than their rollouts: for want of blocks.
void Oracle::CoverShrunk(const Peer& peer, int64_t rows) {
  if (2 * rows > peer.hello.limits.max_rows) return;
  for (const VerifyItem& item : peer.round->items) {
    Request* request = FindLive(item.sequence_id);
    if (request == nullptr || item.is_prefill) continue;
    if (IsMirror(*request)) continue;  // a branch may be longer than a window
    const AskedBranch* branch = DecidedBranch(request);
    if (branch != nullptr && item.window.size() < branch->usable.size()) {
      coverage_->Count(Row::kWindowShrinks);
    }
  }
}

// Returns its rows.
int64_t Oracle::CheckItem(Peer* peer, const VerifyItem& item) {
  Request* request = FindLive(item.sequence_id);
  if (request == nullptr || request->verifier != peer || request->verifier_id != item.sequence_id) {
    Violation("a round with a sequence that is not there");
    return 0;
  }
  if (item.committed_length != request->length()) Violation("a round with a wrong length");
  if (item.branch_top_k != 0 &&
      (!IsMirror(*request) || item.branch_top_k != plan_.config.branch_top_k ||
       request->draft_state != DraftSequenceState::kReady)) {
    Violation("candidates wanted of a request that has no use for them");
  }
  request->next = {};
  if (item.is_prefill) {
    if (request->life != Life::kPrefilling || item.begin != request->prefilled ||
        item.end > request->total_length || !item.window.empty()) {
      Violation("a chunk out of line");
    }
    return item.end - item.begin;
  }
  if (request->life != Life::kDecoding) Violation("a window before the prompt is done");
  CheckWindow(item, request);
  return static_cast<int64_t>(item.window.size()) + 1;
}

}  // namespace mirrorsd::sim
