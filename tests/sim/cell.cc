#include "tests/sim/cell.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "scheduler/transcript/printing.h"
#include "tests/sim/costs.h"
#include "tests/sim/story.h"

namespace mirrorsd::sim {
namespace {

constexpr absl::Duration kWatch = absl::Milliseconds(100);
// A schedule that takes more steps than this goes round in circles.
constexpr int64_t kMaxSteps = 400000;

}  // namespace

Cell::Cell(const Plan& plan, Coverage* coverage, bool tells)
    : plan_(plan),
      coverage_(coverage),
      tells_(tells),
      config_(plan.config),
      core_(std::make_unique<scheduler::Core>(config_)),
      oracle_(plan, coverage, [this](const std::string& what) { Violation(what); }) {
  const auto add = [this](WorkerRole role, const std::vector<PlannedWorker>& workers) {
    for (size_t i = 0; i < workers.size(); ++i) {
      auto host = std::make_unique<Host>();
      host->role = role;
      host->index = static_cast<int>(i);
      host->planned = &workers[i];
      hosts_.push_back(std::move(host));
    }
  };
  add(WorkerRole::kVerifier, plan.verifiers);
  add(WorkerRole::kDraft, plan.drafts);
}

Cell::~Cell() { clock_.Clear(); }

std::string Cell::Run() {
  if (tells_) Tell(DescribeConfig(plan_));
  for (const auto& host : hosts_) {
    clock_.After(host->planned->at, [this, h = host.get()] { Dial(h); });
  }
  PlanClients();
  PlanFaults();
  clock_.After(kActive, [this] { Quieten(); });
  clock_.After(kWatch, [this] { Watch(); });
  while (violation_.empty() && !IsOver() && clock_.RunNext()) {
    if (num_steps_ > kMaxSteps * check_every_) Violation("the schedule does not come to rest");
  }
  if (violation_.empty()) oracle_.AtEnd(*core_);
  return violation_;
}

// The end: every request has ended, and the workers have had time to say so of every sequence.
bool Cell::IsOver() const {
  if (!quiet_ || oracle_.num_live() > 0) return clock_.elapsed() > kActive + kPatience;
  const absl::Duration rest = clock_.now() - all_ended_at_;
  if (oracle_.held().empty()) return rest > absl::Milliseconds(300);
  return rest > config_.end_timeout + config_.min_round_timeout + absl::Seconds(2);
}

void Cell::Violation(const std::string& what) {
  if (violation_.empty()) violation_ = what;
  if (tells_) Tell(absl::StrCat("# VIOLATION: ", what));
}

void Cell::Tell(const std::string& line) {
  absl::StrAppend(&story_, line, "\n");
  EchoLine(line);
}

void Cell::TellEvent(const scheduler::Event& event) {
  if (std::holds_alternative<scheduler::TimePassed>(event) && CoreNow() == told_at_) return;
  told_at_ = CoreNow();
  Tell(absl::StrCat("at ", absl::FormatDuration(told_at_ - (clock_.now() - clock_.elapsed())), " ",
                    PrintEvent(event, names_)));
}

absl::Time Cell::CoreNow() const {
  return absl::UnixEpoch() + absl::Floor(clock_.now() - absl::UnixEpoch(), plan_.tick);
}

void Cell::Step(const scheduler::Event& event) {
  const bool due = core_->NextDeadline() <= CoreNow();
  // What a deadline still says to a worker that detaches in the same step would be its word to a dead one;
  // and whether one that drains was lost before or after is not seen from outside.
  const auto* reported = std::get_if<scheduler::WorkerReported>(&event);
  const bool leaves = std::holds_alternative<scheduler::WorkerDetached>(event) ||
                      (reported != nullptr && std::holds_alternative<Drain>(reported->item));
  const bool joined = due && plan_.joins_steps && !leaves;
  if (due && !joined) StepOnce(scheduler::TimePassed{}, false);
  StepOnce(event, joined);
}

void Cell::StepOnce(const scheduler::Event& event, bool joined) {
  if (!violation_.empty()) return;
  ++num_steps_;
  actions_.clear();
  if (tells_) TellEvent(event);
  oracle_.BeforeStep(CoreNow(), event, joined);
  StepCore(event);
  for (const scheduler::Action& action : actions_) {
    if (tells_) Tell(absl::StrCat("> ", scheduler::Print(action, names_)));
    oracle_.Saw(action);
    Perform(action);
  }
  if (checks_invariants_ && num_steps_ % check_every_ == 0) core_->CheckInvariants();
  oracle_.AfterStep(*core_);
  if (oracle_.num_live() > 0) all_ended_at_ = clock_.now();
  Arm();
}

void Cell::StepCore(const scheduler::Event& event) {
  if (costs_ == nullptr) return core_->Step(CoreNow(), event, &actions_);
  const int64_t begun_ns = ThreadNs();
  core_->Step(CoreNow(), event, &actions_);
  CountCosts(event, ThreadNs() - begun_ns);
}

void Cell::Arm() {
  const absl::Time deadline = core_->NextDeadline();
  if (deadline >= armed_) return;
  armed_ = deadline;
  // A coarse clock shows a deadline only at its next tick.
  const absl::Duration wait = std::max(absl::ZeroDuration(), deadline - clock_.now());
  clock_.After(absl::Ceil(wait, plan_.tick) + plan_.tick, [this, deadline] {
    if (armed_ == deadline) armed_ = absl::InfiniteFuture();
    StepOnce(scheduler::TimePassed{}, false);
  });
}

// What the process around the core would do. Nothing here steps the core: it is in a step.
void Cell::Perform(const scheduler::Action& action) {
  if (const auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
    Connection* connection = FindConnection(send->connection);
    if (connection == nullptr || connection->broken) return;
    connection->last_out = std::max(connection->last_out, clock_.now() + Delay(&connection->link));
    clock_.After(connection->last_out - clock_.now(), [connection, command = send->command] {
      if (!connection->broken) connection->worker->Receive(command);
    });
  } else if (const auto* welcome = std::get_if<scheduler::WelcomeWorker>(&action)) {
    clock_.After(absl::ZeroDuration(), [this, id = welcome->connection] { Beat(id); });
  } else if (const auto* refuse = std::get_if<scheduler::RefuseWorker>(&action)) {
    Connection* connection = FindConnection(refuse->connection);
    if (connection == nullptr) return;
    Break(connection);
    DialAgain(connection->host, Delay(&connection->link) * 100);
  } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
    Connection* connection = FindConnection(close->connection);
    if (connection == nullptr) return;
    Break(connection);
    DialAgain(connection->host, absl::Milliseconds(connection->link.Uniform(10, 1500)));
  } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    Request* request = oracle_.FindRequest(commit->stream);
    if (request == nullptr || !request->live() || request->client == nullptr) return;
    // Its queue is full: the owner ends the stream as if the client had gone.
    if (request->client->slow_after < 0 || --attempts_[commit->stream] > 0) return;
    request->was_slow = true;
    clock_.After(absl::ZeroDuration(), [this, stream = commit->stream] { Cancel(stream); });
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    const Request* request = oracle_.FindRequest(fail->stream);
    const std::optional<ErrorInfo> info = GetErrorInfo(fail->status);
    if (request != nullptr && info.has_value() && info->retryable) AskAgain(*request);
  }
}

// ---- clients --------------------------------------------------------------------------------------

void Cell::PlanClients() {
  for (const PlannedClient& client : plan_.clients) {
    clock_.After(client.at, [this, &client] { Submit(client, 0, false); });
  }
}

SubmitRequest Cell::MakeRequest(const PlannedClient& client, ConnectionId stream) {
  Random random(client.seed);
  SubmitRequest request;
  request.request_id = absl::StrCat("r", stream);
  request.vocabulary_fingerprint = "vocabulary";
  for (int32_t i = 0; i < client.prompt_length; ++i) {
    request.token_ids.push_back(static_cast<TokenId>(random.Uniform(0, kVocabulary - 1)));
  }
  if (client.ends) request.end_token_ids = {kEndToken};
  request.max_tokens = client.max_tokens;
  request.sampling.seed = client.seed;
  request.speculation = client.speculates ? client.mode : SpeculationMode::kOff;
  if (client.window >= 0) request.num_speculative_tokens = client.window;
  if (client.deadline > absl::ZeroDuration()) request.deadline = client.deadline;
  Flaws(client, &request);
  return request;
}

void Cell::Flaws(const PlannedClient& client, SubmitRequest* request) {
  switch (client.flaw) {
    case Flaw::kNone: return;
    case Flaw::kEmptyPrompt: return request->token_ids.clear();
    case Flaw::kPromptTooLong: return request->token_ids.resize(kContext, 1);
    case Flaw::kBadToken: request->token_ids.back() = kVocabulary; return;
    case Flaw::kBadBias: request->sampling.logit_bias = {{-1, 1.0f}}; return;
    case Flaw::kNoTokens: request->max_tokens = 0; return;
    case Flaw::kNegativeWindow: request->num_speculative_tokens = -1; return;
    case Flaw::kPastDeadline: request->deadline = absl::ZeroDuration(); return;
    case Flaw::kVocabulary: request->vocabulary_fingerprint = "other"; return;
    case Flaw::kNoSuchMode: request->speculation = static_cast<SpeculationMode>(77); return;
    case Flaw::kLongId: request->request_id.assign(kMaxRequestIdBytes + 1, 'r'); return;
    case Flaw::kDuplicate:
      for (const auto& [stream, other] : oracle_.requests()) {
        if (other->live()) request->request_id = other->submit.request_id;
      }
      return;
  }
}

void Cell::Submit(const PlannedClient& client, int attempt, bool asked_again) {
  if (client.flaw == Flaw::kDuplicate) {
    // Whose id it takes must still live when it comes.
    if (core_->NextDeadline() <= CoreNow()) StepOnce(scheduler::TimePassed{}, false);
    if (oracle_.num_live() == 0) return;
  }
  const ConnectionId stream = next_stream_++;
  if (tells_) names_[stream] = absl::StrCat("r", stream);
  const SubmitRequest submit = MakeRequest(client, stream);
  Request* request = oracle_.Asked(stream, submit, &client);
  request->asked_again = asked_again;
  attempts_[stream] = client.slow_after;
  Step(scheduler::Submitted{stream, submit});
  if (client.cancels_after != absl::InfiniteDuration()) {
    clock_.After(client.cancels_after, [this, stream] { Cancel(stream); });
  }
  if (oracle_.num_live() == 0) return;
  for (const PlannedFault* fault : std::exchange(postponed_, {})) {
    clock_.After(absl::Milliseconds(1), [this, fault] { TryFault(*fault); });
  }
}

// A client that was told to come again does, once or twice.
void Cell::AskAgain(const Request& request) {
  const PlannedClient* client = request.client;
  if (client == nullptr || !client->retries || client->flaw != Flaw::kNone || quiet_) return;
  if (oracle_.requests().size() > 3 * plan_.clients.size()) return;
  clock_.After(absl::Milliseconds(400),
               [this, client, again = request.asked_again] { Submit(*client, 1, again); });
}

void Cell::Cancel(ConnectionId stream) {
  const Request* request = oracle_.FindRequest(stream);
  if (request == nullptr || request->life == Life::kNew) return;
  Step(scheduler::Cancelled{stream});
}

// ---- the end --------------------------------------------------------------------------------------

void Cell::Watch() {
  if (core_->NextDeadline() <= CoreNow()) StepOnce(scheduler::TimePassed{}, false);
  oracle_.Watch(CoreNow());
  clock_.After(kWatch, [this] { Watch(); });
}

// Nothing new goes wrong, and every worker is there. Before, what is missing of the faults.
void Cell::Quieten() {
  if (num_faults_ < kMinFaults && num_spares_ < plan_.spare_faults.size()) {
    Submit(plan_.spare_clients[num_spares_], 0, false);
    const PlannedFault* fault = &plan_.spare_faults[num_spares_++];
    clock_.After(fault->at, [this, fault] { TryFault(*fault); });
    clock_.After(absl::Milliseconds(500), [this] { Quieten(); });
    return;
  }
  quiet_ = true;
  all_ended_at_ = clock_.now();
  if (tells_) Tell("# quiet");
  for (const auto& host : hosts_) {
    host->odd_hello = 0;
    Connection* connection = Alive(host.get());
    if (connection == nullptr) {
      DialAgain(host.get(), absl::Milliseconds(100));
    } else if (connection->worker->frozen() || connection->peer->slow ||
               connection->peer->draining || connection->worker->hello().context_length < 1 ||
               connection->worker->hello().model_fingerprint == "other" ||
               connection->worker->hello().vocabulary_fingerprint == "other") {
      Break(connection);
      Detach(connection->id, "restarted at the end");
    }
  }
  oracle_.BeginDrain();
  Step(scheduler::DrainRequested{});
  if (!plan_.clients.empty()) Submit(plan_.clients.front(), 2, false);
}

}  // namespace mirrorsd::sim
