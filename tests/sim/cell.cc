#include "tests/sim/cell.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error.h"
#include "scheduler/policy/policies.h"

namespace mirrorsd::sim {

using scheduler::CoreConfig;

namespace {

constexpr absl::Duration kActive = absl::Seconds(40);   // requests and faults come in this time
constexpr absl::Duration kPatience = absl::Seconds(120);  // then everything must have ended

}  // namespace

Cell::Cell(uint64_t seed) : random_(seed) {
  num_verifiers_ = static_cast<int>(random_.Uniform(1, 3));
  num_drafts_ = static_cast<int>(random_.Uniform(0, 3));
  two_numerics_ = random_.OneIn(3);
  agreement_ = static_cast<int>(random_.Uniform(0, 100));
  duplicate_one_in_ = random_.OneIn(2) ? 20 : 0;
  coarse_ = std::vector<absl::Duration>{absl::Nanoseconds(1), absl::Milliseconds(1),
                                        absl::Milliseconds(50)}[random_.Uniform(0, 2)];
  for (const SpeculationPolicy& policy : scheduler::Policies()) config_.policies.push_back(policy);
  config_.num_speculative_tokens = static_cast<int32_t>(random_.Uniform(1, 6));
  config_.max_num_seqs = static_cast<int32_t>(random_.Uniform(2, 8));
  config_.max_queued = static_cast<int32_t>(random_.Uniform(0, 12));
  config_.max_prefill_rows_per_round = static_cast<int32_t>(random_.Uniform(1, 24));
  config_.queue_timeout = absl::Seconds(random_.Uniform(2, 60));
  config_.verifier_loss_timeout = absl::Seconds(random_.Uniform(1, 30));
  if (random_.OneIn(2)) config_.vocabulary_fingerprint = "vocabulary";
  core_ = std::make_unique<scheduler::Core>(config_);
  num_to_submit_ = static_cast<int>(random_.Uniform(8, 16));
}

Cell::~Cell() = default;

void Cell::After(absl::Duration delay, std::function<void()> what) {
  pending_.push({now_ + delay, next_order_++, std::move(what)});
}

void Cell::Violation(const std::string& what) {
  violations_.push_back(absl::StrCat(absl::FormatDuration(now_ - absl::UnixEpoch()), " ", what));
  Tell(absl::StrCat("VIOLATION ", what));
}

void Cell::Tell(const std::string& line) {
  absl::StrAppend(&story_, absl::FormatDuration(now_ - absl::UnixEpoch() - absl::Hours(1)), " ",
                  line, "\n");
}

absl::Duration Cell::Delay() {
  return random_.OneIn(30) ? absl::Milliseconds(random_.Uniform(1, 200))
                           : absl::Microseconds(random_.Uniform(20, 2000));
}

absl::Time Cell::CoreNow() const {
  return absl::UnixEpoch() + absl::Floor(now_ - absl::UnixEpoch(), coarse_);
}

void Cell::Step(const scheduler::Event& event) {
  std::vector<scheduler::Action> actions;
  ++num_steps_;
  core_->Step(CoreNow(), event, &actions);
  core_->CheckInvariants();
  for (const scheduler::Action& action : actions) Perform(action);
  const absl::Time deadline = core_->NextDeadline();
  if (deadline == absl::InfiniteFuture() || deadline >= armed_) return;
  armed_ = deadline;
  // A coarse clock shows a deadline only at its next tick.
  const absl::Duration wait = std::max(absl::ZeroDuration(), deadline - now_);
  After(absl::Ceil(wait, coarse_) + coarse_, [this, deadline] {
    if (armed_ == deadline) armed_ = absl::InfiniteFuture();
    Step(scheduler::TimePassed{});
  });
}

void Cell::Perform(const scheduler::Action& action) {
  if (const auto* welcome = std::get_if<scheduler::WelcomeWorker>(&action)) {
    Connection& connection = connections_.at(welcome->connection);
    if (connection.welcomed || connection.closed) Violation("a second greeting");
    connection.welcomed = true;
    connection.fence = {welcome->welcome.scheduler_epoch, welcome->welcome.incarnation};
    Beat(welcome->connection);
  } else if (const auto* refuse = std::get_if<scheduler::RefuseWorker>(&action)) {
    Connection& connection = connections_.at(refuse->connection);
    connection.closed = true;
    connection.worker->Kill();
    ++tally_[absl::StrCat("refused ", refuse->refused.reason)];
  } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
    Connection& connection = connections_.at(close->connection);
    if (connection.closed) Violation("closed twice");
    connection.closed = true;
    connection.worker->Kill();
    Tell(absl::StrCat("close ", connection.worker->hello().name, ": ", close->reason));
    const std::string reason = close->reason.substr(0, 30);
    ++tally_[absl::StrCat("closed: ", reason)];
    const bool faulty = close->reason.find("faulty") == 0;
    if (faulty && !connection.worker->misled()) Violation(absl::StrCat("an honest worker: ", close->reason));
    if (reason.find("a newer worker") == 0) return;  // that is the one that dialled again
    const Hello& hello = connection.worker->hello();
    DialAgainLater(hello.role, hello.name.back() - '0');
  } else if (const auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
    Connection& connection = connections_.at(send->connection);
    if (connection.closed || !connection.welcomed) Violation("a command to a closed worker");
    if (connection.fence != send->fence) Violation("a command with a wrong fence");
    connection.last_out = std::max(connection.last_out, now_ + Delay());
    After(connection.last_out - now_, [worker = connection.worker, command = send->command] {
      if (!worker->dead()) worker->Handle(command);
    });
  } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    CheckCommit(commit->stream, commit->committed);
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    CheckFailure(fail->stream, fail->status);
  }
}

void Cell::CheckCommit(ConnectionId stream, const Committed& committed) {
  Client& client = clients_.at(stream);
  if (client.ended) Violation("tokens after the end");
  if (committed.output_index != static_cast<int32_t>(client.output.size()) ||
      committed.token_ids.empty() || committed.origins.size() != committed.token_ids.size()) {
    Violation("output out of line");
  }
  client.output.insert(client.output.end(), committed.token_ids.begin(), committed.token_ids.end());
  // The whole output is that of one numerics_id.
  bool right = false;
  for (int numerics = 0; numerics < (two_numerics_ ? 2 : 1); ++numerics) {
    std::vector<TokenId> prefix = client.request.token_ids;
    bool same = true;
    for (const TokenId token : client.output) {
      same &= TargetToken(prefix, numerics) == token;
      prefix.push_back(token);
    }
    right |= same;
  }
  if (!right) Violation(absl::StrCat("wrong tokens for stream ", stream));
  const std::vector<TokenId>& ends = client.request.end_token_ids;
  const auto is_end = [&](TokenId token) {
    return std::find(ends.begin(), ends.end(), token) != ends.end();
  };
  const int32_t length = static_cast<int32_t>(client.output.size());
  for (int32_t i = 0; i + 1 < length; ++i) {
    if (is_end(client.output[i])) Violation("tokens after an end token");
  }
  const FinishReason finish = is_end(client.output.back()) ? FinishReason::kStop
                              : length == client.max_tokens ? FinishReason::kLength
                                                            : FinishReason::kNone;
  if (length > client.max_tokens || committed.finish != finish) Violation("a wrong finish");
  CheckStats(client, committed);
  if (committed.finish == FinishReason::kNone) return;
  client.ended = true;
  Tell(absl::StrCat("finish ", stream, " after ", length));
  ++tally_[finish == FinishReason::kStop ? "end: stop" : "end: length"];
  if (committed.stats.resumes > 0) ++tally_["end: finished after a resume"];
}

void Cell::CheckStats(const Client& client, const Committed& committed) {
  const SpeculationStats& stats = committed.stats;
  const int64_t length = static_cast<int64_t>(client.output.size());
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
  if (committed.token_ids.size() > 1) ++tally_["windows accepted in part or whole"];
  if (committed.origins.back() == TokenOrigin::kRecovered) ++tally_["recovered"];
  if (cut) ++tally_["end inside a window"];
}

void Cell::CheckFailure(ConnectionId stream, const absl::Status& status) {
  Client& client = clients_.at(stream);
  if (client.ended) Violation("a second end");
  client.ended = true;
  Tell(absl::StrCat("fail ", stream, " ", status.ToString()));
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) return Violation("a failure without its ErrorInfo");
  ++tally_[absl::StrCat("end: ", info->reason)];
  const absl::Duration age = now_ - client.submitted_at;
  const bool fair =
      info->reason == "CANCELLED" ? client.cancelled
      : info->reason == "DEADLINE_EXCEEDED"
          ? client.request.deadline.has_value() && age + coarse_ >= *client.request.deadline
      : info->reason == "NAN_LOGITS"    ? nan_
      : info->reason == "QUEUE_FULL"    ? info->retryable
      : info->reason == "QUEUE_TIMEOUT" ? info->retryable && age + coarse_ >= config_.queue_timeout
      : info->reason == "VERIFIER_LOST"
          ? info->retryable && age + coarse_ >= config_.verifier_loss_timeout
      : info->reason == "VOCABULARY_MISMATCH" ? config_.vocabulary_fingerprint.empty()
      : info->reason == "VERIFIER_LOST_REPEATEDLY" ? connections_.size() > 5
      : info->reason == "NO_VERIFIER" || info->reason == "KV_EXHAUSTED" ||
                info->reason == "UNKNOWN_SEQUENCE"
          ? info->retryable
          : false;
  if (!fair) Violation(absl::StrCat("an unfair end: ", status.ToString()));
}

std::vector<std::string> Cell::Run() {
  for (int i = 0; i < num_drafts_; ++i) {
    After(Delay() * (random_.OneIn(3) ? 500 : 1), [this, i] { Dial(WorkerRole::kDraft, i); });
  }
  for (int i = 0; i < num_verifiers_; ++i) {
    After(Delay(), [this, i] { Dial(WorkerRole::kVerifier, i); });
  }
  PlanClients();
  PlanFaults();
  After(kActive, [this] { Quieten(); });
  const absl::Time end = now_ + kActive + kPatience;
  while (!pending_.empty() && violations_.empty()) {
    const Pending next = pending_.top();
    pending_.pop();
    now_ = next.at;
    next.what();
    if (!quiet_ || !AllEnded()) {
      all_ended_at_ = now_;
    } else if (now_ - all_ended_at_ > absl::Seconds(15)) {
      break;  // time enough for every SequenceEnded
    }
    if (now_ > end) break;
  }
  if (violations_.empty()) CheckEnd();
  return violations_;
}

bool Cell::AllEnded() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& entry) { return entry.second.ended; });
}

void Cell::CheckEnd() {
  for (const auto& [stream, client] : clients_) {
    if (!client.ended) Violation(absl::StrCat("stream ", stream, " has no end"));
  }
  if (!core_->IsDrained()) Violation("not drained");
  const scheduler::CoreGauges gauges = core_->Gauges();
  if (gauges.kv_blocks_reserved != 0) Violation("blocks leaked");
  for (const auto& [id, connection] : connections_) {
    if (connection.closed || connection.detached) continue;
    if (connection.worker->num_sequences() != 0) Violation("a worker still holds a sequence");
  }
}

}  // namespace mirrorsd::sim
