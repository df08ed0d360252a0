// From Submit to a place at a verifier. Everything that can be refused is refused here, before any work.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {

void Machine::HandleSubmitted(const Submitted& event) {
  const SubmitRequest& request = event.request;
  CHECK(!by_stream_.contains(event.stream)) << "stream " << event.stream << " is in use";
  ++counters_.requests_submitted;
  RejectReason reason = RejectReason::kInvalid;
  const absl::Status status = CheckSubmit(request, &reason);
  if (!status.ok()) return Reject(event.stream, reason, status);

  auto owned = std::make_unique<Sequence>();
  Sequence* sequence = owned.get();
  sequence->ordinal = next_ordinal_;
  sequence->stream = event.stream;
  sequence->request_id = request.request_id;
  sequence->sampling = request.sampling;
  sequence->end_token_ids = request.end_token_ids;
  sequence->policy = FindPolicy(request.speculation);
  sequence->requested_window =
      request.num_speculative_tokens.value_or(config_.num_speculative_tokens);
  sequence->requested_top_k = request.branch_top_k.value_or(config_.branch_top_k);
  sequence->speculation_on =
      sequence->policy->mode != SpeculationMode::kOff && sequence->requested_window > 0;
  sequence->tokens = request.token_ids;
  sequence->prompt_length = static_cast<int32_t>(request.token_ids.size());
  sequence->max_length = static_cast<int32_t>(
      std::min<int64_t>(int64_t{sequence->prompt_length} + request.max_tokens,
                        profile_->context_length));
  sequence->submitted_at = now_;
  // Whoever a deadline of this step has brought here comes before it.
  if (std::exchange(placing_, false)) PlaceWaiting();
  if (num_queued_new_ >= config_.max_queued &&
      (num_queued_new_ > 0 || FindVerifier(*sequence) == nullptr)) {
    return Reject(event.stream, RejectReason::kQueueFull,
                  mirrorsd::Overloaded("QUEUE_FULL", "too many requests wait for a verifier",
                                       absl::StrCat(config_.max_queued)));
  }
  if (sequences_.empty()) last_progress_ = now_;
  ++next_ordinal_;
  by_stream_[sequence->stream] = sequence;
  by_request_id_[sequence->request_id] = sequence;
  sequences_[sequence->ordinal] = std::move(owned);
  if (request.deadline.has_value()) {
    deadlines_.Set(Wait::kRequestDeadline, sequence->ordinal, now_ + *request.deadline);
  }
  deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.queue_timeout);
  Enqueue(sequence);
}

absl::Status Machine::CheckSubmit(const SubmitRequest& request, RejectReason* reason) const {
  if (request.request_id.empty() || request.request_id.size() > kMaxRequestIdBytes) {
    return InvalidField("request_id", "its size is wrong",
                        absl::StrCat("1 to ", kMaxRequestIdBytes, " bytes"));
  }
  if (by_request_id_.contains(request.request_id)) {
    *reason = RejectReason::kDuplicate;
    return MakeError(absl::StatusCode::kAlreadyExists, "a request with this request_id is live",
                     {.reason = "DUPLICATE_REQUEST_ID", .field = "request_id"});
  }
  if (draining_) {
    *reason = RejectReason::kDraining;
    return Unavailable("DRAINING", "the scheduler is shutting down");
  }
  if (!profile_.has_value()) {
    *reason = RejectReason::kNoVerifier;
    return Unavailable("NO_VERIFIER", "no verifier-worker has attached yet");
  }
  if (request.vocabulary_fingerprint != profile_->vocabulary_fingerprint) {
    *reason = RejectReason::kVocabulary;
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     "the token ids are of another vocabulary than the target's",
                     {.reason = "VOCABULARY_MISMATCH", .field = "vocabulary_fingerprint"});
  }
  return CheckTokens(request);
}

absl::Status Machine::CheckTokens(const SubmitRequest& request) const {
  const int64_t prompt_length = static_cast<int64_t>(request.token_ids.size());
  const int32_t context = profile_->context_length;
  if (prompt_length == 0) return InvalidField("token_ids", "the prompt is empty", "at least 1");
  if (prompt_length > context - 1) {
    return InvalidField("token_ids",
                        absl::StrCat("the prompt has ", prompt_length, " tokens; the context is ",
                                     context, " tokens, prompt and output"),
                        absl::StrCat(context - 1, " tokens"));
  }
  for (const TokenId token : request.token_ids) {
    if (token < 0 || token >= profile_->vocabulary_size) {
      return InvalidField("token_ids", absl::StrCat("token ", token, " is not in the vocabulary"),
                          absl::StrCat("0 to ", profile_->vocabulary_size - 1));
    }
  }
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    if (token < 0 || token >= profile_->vocabulary_size) {
      return InvalidField("logit_bias", absl::StrCat("token ", token, " is not in the vocabulary"),
                          absl::StrCat("0 to ", profile_->vocabulary_size - 1));
    }
  }
  if (request.max_tokens < 1) {
    return InvalidField("max_tokens", absl::StrCat("it is ", request.max_tokens), "at least 1");
  }
  if (request.num_speculative_tokens.value_or(0) < 0) {
    return InvalidField("num_speculative_tokens", "it is negative", "at least 0");
  }
  if (const int32_t top_k = request.branch_top_k.value_or(1); top_k < 1 || top_k > kMaxBranchTopK) {
    return InvalidField("branch_top_k", absl::StrCat("it is ", top_k), absl::StrCat("1 to ", kMaxBranchTopK));
  }
  if (request.deadline.has_value() && *request.deadline <= absl::ZeroDuration()) {
    return InvalidField("deadline", "it has passed", "more than 0 s");
  }
  if (FindPolicy(request.speculation) == nullptr) {
    std::string allowed;
    for (const SpeculationPolicy& policy : config_.policies) {
      absl::StrAppend(&allowed, allowed.empty() ? "" : ", ", policy.name);
    }
    return InvalidField("speculation", "this mode is not available", allowed);
  }
  const int32_t max_length =
      static_cast<int32_t>(std::min<int64_t>(prompt_length + request.max_tokens, context));
  const auto holds = [&](const Worker* w) { return w->ledger.CanEverHold(max_length); };
  if (!verifiers_.empty() && std::none_of(verifiers_.begin(), verifiers_.end(), holds)) {
    return InvalidField("max_tokens",
                        absl::StrCat("prompt and output may take ", max_length,
                                     " tokens of KV, more than any verifier has"));
  }
  return absl::OkStatus();
}

const SpeculationPolicy* Machine::FindPolicy(SpeculationMode mode) const {
  if (mode == SpeculationMode::kDefault) mode = config_.speculation;
  for (const SpeculationPolicy& policy : config_.policies) {
    if (policy.mode == mode) return &policy;
  }
  return nullptr;
}

void Machine::Reject(ConnectionId stream, RejectReason reason, const absl::Status& status) {
  ++counters_.requests_rejected[static_cast<int>(reason)];
  Act(FailRequest{stream, status});
}

void Machine::Enqueue(Sequence* sequence) {
  CHECK(!sequence->queued && sequence->verifier == nullptr);
  waiting_[sequence->numerics_id][KeyOf(*sequence)] = sequence;
  sequence->queued = true;
  if (!sequence->was_placed) ++num_queued_new_;
  placing_ = true;
}

void Machine::Dequeue(Sequence* sequence) {
  if (!sequence->queued) return;
  waiting_.at(sequence->numerics_id).erase(KeyOf(*sequence));
  sequence->queued = false;
  if (!sequence->was_placed) --num_queued_new_;
}

// In the order of places over all lines. Who does not fit yet is not overtaken, or it would starve: where
// it may go, nobody after it does. Who could go nowhere holds up nobody.
void Machine::PlaceWaiting() {
  for (Worker* verifier : verifiers_) verifier->claimed = false;
  struct Head {
    const std::string* numerics_id;
    Line::iterator next;
    Line::iterator end;
  };
  std::vector<Head> heads;
  for (auto line = waiting_.begin(); line != waiting_.end();) {
    if (!line->second.empty()) {
      heads.push_back({&line->first, line->second.begin(), line->second.end()});
    }
    line = line->second.empty() ? waiting_.erase(line) : std::next(line);
  }
  while (!heads.empty()) {
    const auto head = std::min_element(heads.begin(), heads.end(), [](const Head& a, const Head& b) {
      return a.next->first < b.next->first;
    });
    if (!IsOpen(*head->numerics_id, /*never_placed=*/head->next->first.first)) {
      heads.erase(head);
      continue;
    }
    Sequence* sequence = (head->next++)->second;
    if (Worker* verifier = FindVerifier(*sequence)) {
      Place(sequence, verifier);
    } else {
      Claim(*sequence);
    }
    if (head->next == head->end) heads.erase(head);
  }
}

// Whether anyone of that line may still find a place.
bool Machine::IsOpen(const std::string& numerics_id, bool never_placed) const {
  return std::any_of(verifiers_.begin(), verifiers_.end(), [&](const Worker* verifier) {
    return !verifier->claimed && !(never_placed && verifier->draining) &&
           (numerics_id.empty() || verifier->hello.numerics_id == numerics_id);
  });
}

// Nobody after the sequence goes where it may.
void Machine::Claim(const Sequence& sequence) {
  for (Worker* verifier : verifiers_) {
    if (MayServe(*verifier, sequence)) verifier->claimed = true;
  }
}

// Whether it could go there if there were room. One that drains takes back what it had to give up.
bool Machine::MayServe(const Worker& verifier, const Sequence& sequence) const {
  if (verifier.draining && sequence.last_incarnation != verifier.fence.incarnation) return false;
  if (!sequence.numerics_id.empty() && verifier.hello.numerics_id != sequence.numerics_id) {
    return false;
  }
  return verifier.ledger.CanEverHold(sequence.max_length);
}

// The least loaded one that may and can take it; the one that attached first among equals.
Worker* Machine::FindVerifier(const Sequence& sequence) const {
  Worker* best = nullptr;
  for (Worker* verifier : verifiers_) {
    const int32_t max_sequences =
        std::min(config_.max_num_seqs, verifier->hello.limits.max_sequences);
    if (verifier->claimed || static_cast<int32_t>(verifier->leases.size()) >= max_sequences ||
        !MayServe(*verifier, sequence) ||
        !verifier->ledger.Fits(sequence.committed_length(), sequence.max_length)) {
      continue;
    }
    if (best == nullptr || verifier->live.size() < best->live.size()) best = verifier;
  }
  return best;
}

void Machine::Place(Sequence* sequence, Worker* verifier) {
  Dequeue(sequence);
  deadlines_.Clear(Wait::kVerifier, sequence->ordinal);
  sequence->stage = Stage::kStarting;
  sequence->verifier = verifier;
  // The smallest of its mode's cohorts; the first among equals.
  sequence->cohort_index = 0;
  for (int32_t i = 1; i < sequence->policy->num_cohorts; ++i) {
    if (verifier->cohorts[i].num_sequences < verifier->CohortOf(*sequence).num_sequences) {
      sequence->cohort_index = i;
    }
  }
  ++verifier->CohortOf(*sequence).num_sequences;
  sequence->verifier_id = OpenLease(verifier, sequence);
  sequence->total_length = sequence->committed_length();
  sequence->kv = verifier->ledger.Open(sequence->total_length, sequence->max_length);
  sequence->prefilled_length = 0;
  sequence->decided_round = 0;
  if (!sequence->was_placed) {
    sequence->was_placed = true;
    sequence->queue_time = now_ - sequence->submitted_at;
    Observe(ObservationKind::kQueueTime, sequence->queue_time);
  } else if (sequence->last_incarnation != verifier->fence.incarnation) {
    ++sequence->stats.resumes;
    ++counters_.resumes;
  }
  sequence->last_incarnation = verifier->fence.incarnation;
  SendTokens(verifier, sequence->verifier_id, *sequence);
  deadlines_.Set(Wait::kSequenceStarted, sequence->ordinal, now_ + config_.min_round_timeout);
  WantDraft(sequence);
}

void Machine::SendTokens(Worker* worker, SequenceId id, const Sequence& sequence) {
  Act(SendToWorker{worker->connection, worker->fence,
                   StartSequence{id, sequence.sampling, sequence.end_token_ids,
                                 sequence.prompt_length, sequence.committed_length()},
                   sequence.stream});
  for (int32_t begin = 0; begin < sequence.committed_length(); begin += kMaxTokensPerAppend) {
    const int32_t end = std::min(begin + kMaxTokensPerAppend, sequence.committed_length());
    Send(worker, AppendTokens{id, begin, {sequence.tokens.begin() + begin,
                                          sequence.tokens.begin() + end}});
  }
}

SequenceId Machine::OpenLease(Worker* worker, Sequence* sequence) {
  const SequenceId id = next_sequence_id_++;
  worker->leases[id] = Lease{sequence, {}};
  worker->live[sequence->ordinal] = sequence;
  return id;
}

}  // namespace mirrorsd::scheduler
