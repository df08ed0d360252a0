// What a request is given: its tokens, its statistics, its one end.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "tests/sim/oracle/oracle.h"

namespace mirrorsd::sim {

namespace {

void Settle(MirrorBooks* books, const MirrorBooks& more) {
  books->rounds += more.rounds;
  books->branch_windows += more.branch_windows;
  books->branch_depths += more.branch_depths;
  books->ngram_windows += more.ngram_windows;
}

}  // namespace

void Oracle::SawCommit(const scheduler::CommitTokens& commit) {
  Request* request = FindRequest(commit.stream);
  if (request == nullptr || !request->live()) return Violation("tokens for nobody");
  const Committed& committed = commit.committed;
  if (request->life != Life::kPrefilling && request->life != Life::kDecoding) {
    return Violation("tokens for a request that is at no verifier");
  }
  if (committed.output_index != static_cast<int32_t>(request->output.size()) ||
      committed.token_ids.empty() || committed.origins.size() != committed.token_ids.size()) {
    return Violation("output out of line");
  }
  if (expected_commit_ != request) Violation("tokens that no outcome decided");
  expected_commit_ = nullptr;
  CheckTokens(request, committed);
  Settle(&request->books, std::exchange(request->next, {}));
  CheckStats(*request, committed);
  CoverCommit(request, committed);
  Peer* verifier = request->verifier;
  request->numerics_id = verifier->hello.numerics_id;
  request->decided_round = verifier->round->round_id;
  request->decided_accepted = request->item_accepted;
  for (const VerifyItem& item : verifier->round->items) {
    if (item.sequence_id != request->verifier_id) continue;
    request->decided_length = item.committed_length;
    request->decided_window = item.window;
  }
  request->left = 0;
  request->losses = request->errors = 0;
  Move(request, Life::kDecoding);
  if (committed.finish != FinishReason::kNone) End(request);
}

void Oracle::CheckTokens(Request* request, const Committed& committed) {
  const std::vector<TokenId>& ends = request->submit.end_token_ids;
  const auto is_end = [&ends](TokenId token) {
    return std::find(ends.begin(), ends.end(), token) != ends.end();
  };
  if (!request->output.empty() && is_end(request->output.back())) {
    Violation("tokens after an end token");
  }
  for (size_t i = 0; i < committed.token_ids.size(); ++i) {
    const TokenId token = committed.token_ids[i];
    // The whole output is that of one numerics_id.
    for (int numerics = 0; numerics < 2; ++numerics) {
      if (TargetToken(request->prefix, numerics) != token) request->numerics_left &= ~(1 << numerics);
    }
    request->prefix = Extend(request->prefix, token);
    request->output.push_back(token);
    if (is_end(token) && i + 1 < committed.token_ids.size()) Violation("tokens after an end token");
  }
  if (!plan_.two_numerics) request->numerics_left &= 1;
  if (request->numerics_left == 0) {
    Violation(absl::StrCat("wrong tokens for stream ", request->stream));
  }
  const int32_t length = static_cast<int32_t>(request->output.size());
  const FinishReason finish = is_end(request->output.back())  ? FinishReason::kStop
                              : length == request->max_tokens ? FinishReason::kLength
                                                              : FinishReason::kNone;
  if (length > request->max_tokens || committed.finish != finish) Violation("a wrong finish");
}

void Oracle::CheckStats(const Request& request, const Committed& committed) {
  const SpeculationStats& stats = committed.stats;
  const int64_t length = static_cast<int64_t>(request.output.size());
  const int64_t tokens = 1 + stats.rounds + stats.accepted_tokens;
  // A cut inside the window takes the correction token away.
  const bool cut = committed.origins.back() == TokenOrigin::kAccepted;
  if (cut && committed.finish == FinishReason::kNone) Violation("a round without its correction");
  if (tokens != length + (cut ? 1 : 0)) Violation("statistics that do not add up");
  int64_t accepted = 0;
  int64_t drafted = 0;
  for (size_t row = 0; row < stats.drafted_per_position.size(); ++row) {
    accepted += stats.accepted_per_position[row];
    drafted += stats.drafted_per_position[row];
    if (stats.accepted_per_position[row] > stats.drafted_per_position[row]) {
      Violation("more accepted than drafted");
    }
  }
  if (accepted != stats.accepted_tokens || drafted != stats.drafted_tokens) {
    Violation("positions that do not add up");
  }
  if (stats.resumes != request.resumes) Violation("resumes that do not add up");
  CheckBooks(request, stats);
}

void Oracle::CoverCommit(Request* request, const Committed& committed) {
  const TokenOrigin last = committed.origins.back();
  if (last == TokenOrigin::kAccepted) coverage_->Count(Row::kEndInWindow);
  if (last == TokenOrigin::kRecovered) coverage_->Count(Row::kRecovered);
  if (last == TokenOrigin::kBonus && committed.token_ids.size() > 1) coverage_->Count(Row::kBonus);
  const bool first = committed.output_index == 0;
  if (request->left == 'l' && !first) {
    coverage_->Count(request->last_verifier == request->verifier->hello.name ? Row::kResumedSame
                                                                             : Row::kResumedOther);
  }
  if (request->left == 'e') coverage_->Count(Row::kItemRetried);
  if (request->left == 'p') coverage_->Count(Row::kRecomputed);
  if (request->draft_lost && !first) coverage_->Count(Row::kGoesOnWithoutDraft);
  if (committed.finish == FinishReason::kNone) return;
  coverage_->Count(committed.finish == FinishReason::kStop ? Row::kEndStop : Row::kEndLength);
  if (request->asked_again) coverage_->Count(Row::kNewLifeFinished);
  if (draining_) coverage_->Count(Row::kDrainFinishes);
}

// Its workers are to be told in the same step.
void Oracle::End(Request* request) {
  Move(request, Life::kEnded);
  ended_.push_back(request);
}

void Oracle::SawFailure(const scheduler::FailRequest& fail) {
  Request* request = FindRequest(fail.stream);
  if (request == nullptr || request->life == Life::kEnded) return Violation("a second end");
  const std::optional<ErrorInfo> info = GetErrorInfo(fail.status);
  if (!info.has_value()) return Violation("a failure without its ErrorInfo");
  const bool fair = request->life == Life::kNew
                        ? IsFairRefusal(*request, info->reason, info->retryable)
                        : IsFair(*request, fail.status, info->reason, info->retryable);
  if (!fair) Violation(absl::StrCat("an unfair end: ", fail.status.ToString()));
  CoverFailure(request, info->reason);
  if (expected_commit_ == request) expected_commit_ = nullptr;
  End(request);
}

// At admission, before any work.
bool Oracle::IsFairRefusal(const Request& request, const std::string& reason, bool retryable) {
  const auto* submitted = std::get_if<scheduler::Submitted>(event_);
  if (submitted == nullptr || submitted->stream != request.stream) return false;
  const Flaw flaw = request.client == nullptr ? Flaw::kNone : request.client->flaw;
  if (reason == "DRAINING") return draining_ && retryable;
  if (reason == "NO_VERIFIER") return !verifier_ever_ && retryable;
  if (reason == "DUPLICATE_REQUEST_ID") return flaw == Flaw::kDuplicate;
  if (reason == "QUEUE_FULL") {
    return retryable && num_waiting_new_ >= plan_.config.max_queued;
  }
  // Without a vocabulary of the cell's own the first verifier decides, and it may be a wrong one.
  if (reason == "VOCABULARY_MISMATCH") {
    return flaw == Flaw::kVocabulary || plan_.config.vocabulary_fingerprint.empty();
  }
  return reason == "INVALID_FIELD" && flaw != Flaw::kNone;
}

bool Oracle::IsFair(const Request& request, const absl::Status& status, const std::string& reason,
                    bool retryable) {
  const absl::Duration age = now_ - request.submitted_at;
  const absl::Duration waited = now_ - request.life_since;
  const bool waits = request.life == Life::kWaiting;
  if (reason == "CANCELLED") return request.cancelled;
  if (reason == "DEADLINE_EXCEEDED") {
    return request.submit.deadline.has_value() && age >= *request.submit.deadline;
  }
  if (reason == "QUEUE_TIMEOUT") {
    return retryable && waits && request.num_places == 0 && age >= plan_.config.queue_timeout;
  }
  if (reason == "VERIFIER_LOST") {
    const bool lonely = std::none_of(peers_.begin(), peers_.end(), [&](const auto& entry) {
      return MayServe(*entry.second, request);
    });
    return retryable && waits && request.num_places > 0 && lonely &&
           waited >= plan_.config.verifier_loss_timeout;
  }
  if (reason == "VERIFIER_LOST_REPEATEDLY") return request.losses > 5;
  if (item_of_ != &request || request.error != reason) return false;
  if (reason == "NAN_LOGITS") return true;
  return retryable && request.errors > 6;
}

void Oracle::CoverFailure(Request* request, const std::string& reason) {
  if (request->life == Life::kNew) {
    if (request->client != nullptr && request->client->flaw != Flaw::kNone) {
      coverage_->Count(Row::kFlawRefused);
    }
    if (reason == "DRAINING") coverage_->Count(Row::kDrainRefuses);
    if (reason == "NO_VERIFIER") coverage_->Count(Row::kNoVerifier);
    if (reason == "QUEUE_FULL") coverage_->Count(Row::kQueueFull);
    return;
  }
  if (reason == "DEADLINE_EXCEEDED") coverage_->Count(Row::kDeadline);
  if (reason == "QUEUE_TIMEOUT") coverage_->Count(Row::kQueueTimeout);
  if (reason == "VERIFIER_LOST") coverage_->Count(Row::kLossTimeout);
  if (reason == "VERIFIER_LOST_REPEATEDLY") coverage_->Count(Row::kLostAgain);
  if (reason == "NAN_LOGITS") coverage_->Count(Row::kNan);
  if (reason != "CANCELLED") return;
  if (request->was_slow) return coverage_->Count(Row::kSlowClient);
  if (request->life == Life::kWaiting) coverage_->Count(Row::kCancelWaiting);
  if (request->life == Life::kStarting) coverage_->Count(Row::kCancelStarting);
  if (request->life == Life::kPrefilling) coverage_->Count(Row::kCancelPrefilling);
  if (request->life != Life::kDecoding) return;
  coverage_->Count(request->verifier->round.has_value() ? Row::kCancelRound : Row::kCancelWindow);
}

}  // namespace mirrorsd::sim
