#include "tests/scenarios/transcript.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"
#include "scheduler/transcript/printing.h"

namespace mirrorsd::scheduler {
namespace {

// One input line: words, and key=value options among them.
class Line {
 public:
  explicit Line(const std::string& text) {
    for (const auto& word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> option =
          absl::StrSplit(word, absl::MaxSplits('=', 1));
      if (word.find('=') != absl::string_view::npos) {
        options_[option.first] = option.second;
      } else {
        words_.emplace_back(word);
      }
    }
  }
  size_t num_words() const { return words_.size(); }
  std::string Word(size_t i) const { return i < words_.size() ? words_[i] : ""; }
  void Drop(size_t n) { words_.erase(words_.begin(), words_.begin() + n); }
  bool Has(const std::string& key) const { return options_.count(key) > 0; }
  std::string Text(const std::string& key, const std::string& otherwise) const {
    const auto found = options_.find(key);
    return found == options_.end() ? otherwise : found->second;
  }
  int64_t Number(const std::string& key, int64_t otherwise) const {
    return Has(key) ? std::strtoll(options_.at(key).c_str(), nullptr, 10) : otherwise;
  }
  int64_t NumberAt(size_t i) const { return std::strtoll(Word(i).c_str(), nullptr, 10); }
  absl::Duration Time(const std::string& key, absl::Duration otherwise) const {
    absl::Duration duration = otherwise;
    if (Has(key)) absl::ParseDuration(options_.at(key), &duration);
    return duration;
  }
  // "1,2,3", or "9*40" for forty nines.
  std::vector<TokenId> Tokens(const std::string& key) const {
    const std::string text = Text(key, "");
    std::vector<TokenId> tokens;
    for (const auto& part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> run = absl::StrSplit(part, absl::MaxSplits('*', 1));
      const int64_t times = run.second.empty() ? 1 : std::strtoll(run.second.c_str(), nullptr, 10);
      tokens.insert(tokens.end(), times, static_cast<TokenId>(std::strtol(run.first.c_str(), nullptr, 10)));
    }
    return tokens;
  }

 private:
  std::vector<std::string> words_;
  std::map<std::string, std::string> options_;
};

class Runner {
 public:
  // Returns false for a line that is not understood.
  bool Run(const std::string& text, std::vector<std::string>* answers) {
    Line line(text);
    if (line.Word(0) == "config") return Configure(line);
    if (core_ == nullptr) Configure(Line("config"));
    if (line.Word(0) == "at") {
      absl::Duration at;
      if (!absl::ParseDuration(line.Word(1), &at)) return false;
      now_ = absl::UnixEpoch() + at;
      line.Drop(2);
    }
    if (line.Word(0) == "show") {
      Show(answers);
      return true;
    }
    if (line.Word(1) == "answers") return AnswerRound(line, answers);
    std::optional<Event> event = Parse(line);
    if (!event.has_value()) return false;
    Step(*event, answers);
    return true;
  }

 private:
  void Step(const Event& event, std::vector<std::string>* answers) {
    std::vector<Action> actions;
    core_->Step(now_, event, &actions);
    core_->CheckInvariants();
    core_->TakeObservations();
    for (const Action& action : actions) answers->push_back(Print(action, names_));
    for (const Action& action : actions) {
      if (const auto* welcome = std::get_if<WelcomeWorker>(&action)) {
        fences_[welcome->connection] = {welcome->welcome.scheduler_epoch,
                                        welcome->welcome.incarnation};
      }
      if (const auto* send = std::get_if<SendToWorker>(&action)) {
        const auto* verify = std::get_if<StartVerify>(&send->command);
        if (verify != nullptr) rounds_[send->connection] = *verify;
      }
    }
  }

  // All items of the verifier's latest round, each with the same number accepted and the same token.
  bool AnswerRound(const Line& line, std::vector<std::string>* answers) {
    const ConnectionId connection = connections_[line.Word(0)];
    const StartVerify round = rounds_[connection];
    const Fence fence = fences_[connection];
    for (const VerifyItem& item : round.items) {
      VerifyItemDone done{item.sequence_id, item.end, 0, std::nullopt, std::nullopt};
      if (!item.is_prefill) {
        done.num_accepted = static_cast<int32_t>(std::min<int64_t>(
            line.Number("accepted", 0), static_cast<int64_t>(item.window.size())));
        done.kv_length = item.committed_length + done.num_accepted;
      }
      if (!item.is_prefill || item.end == item.committed_length) {
        done.correction_token = static_cast<TokenId>(line.Number("token", 50));
      }
      Step(WorkerReported{connection, fence, VerifyItemReport{round.round_id, done}}, answers);
    }
    Step(WorkerReported{connection, fence, VerifyRoundDone{round.round_id, {}, {64, 64, 0}}},
         answers);
    return true;
  }

  bool Configure(const Line& line) {
    connections_.clear();
    streams_.clear();
    fences_.clear();
    names_.clear();
    rounds_.clear();
    next_connection_ = 1;
    next_stream_ = 1001;
    now_ = absl::UnixEpoch();
    CoreConfig config;
    for (const SpeculationPolicy& policy : Policies()) config.policies.push_back(policy);
    config.num_speculative_tokens = static_cast<int32_t>(line.Number("window", 4));
    const std::string mode = line.Text("speculation", "serial");
    for (const SpeculationPolicy& policy : Policies()) {
      if (mode == SpeculationModeName(policy.mode)) config.speculation = policy.mode;
    }
    config.branch_top_k = static_cast<int32_t>(line.Number("branch_top_k", 2));
    config.branch_budget = static_cast<int32_t>(line.Number("branch_budget", 8));
    for (const MissFallback fallback :
         {MissFallback::kEmpty, MissFallback::kNgram, MissFallback::kHold}) {
      if (line.Text("fallback", "empty") == MissFallbackName(fallback)) {
        config.miss_fallback = fallback;
      }
    }
    config.max_num_seqs = static_cast<int32_t>(line.Number("max_num_seqs", 256));
    config.max_queued = static_cast<int32_t>(line.Number("max_queued", 16));
    config.max_prefill_rows_per_round = static_cast<int32_t>(line.Number("prefill_rows", 256));
    config.queue_timeout = line.Time("queue_timeout", config.queue_timeout);
    config.verifier_loss_timeout = line.Time("loss_timeout", config.verifier_loss_timeout);
    config.worker_timeout = line.Time("worker_timeout", config.worker_timeout);
    config.min_round_timeout = line.Time("round_timeout", config.min_round_timeout);
    config.end_timeout = line.Time("end_timeout", config.end_timeout);
    config.stall_timeout = line.Time("stall_timeout", config.stall_timeout);
    config.min_draft_wait = line.Time("min_draft_wait", config.min_draft_wait);
    config.max_draft_wait = line.Time("max_draft_wait", config.max_draft_wait);
    config.max_missed_deadlines =
        static_cast<int32_t>(line.Number("missed_deadlines", config.max_missed_deadlines));
    config.allow_other_numerics = line.Number("other_numerics", 0) != 0;
    config.vocabulary_fingerprint = line.Text("vocabulary", "");
    config.scheduler_epoch = static_cast<uint64_t>(line.Number("epoch", 1));
    core_ = std::make_unique<Core>(config);
    return true;
  }

  std::optional<Event> Parse(const Line& line) {
    const std::string verb = line.Word(0);
    const std::string name = line.Word(1);
    if (verb == "attach") return Attach(line);
    if (verb == "submit") return Submit(line);
    if (verb == "detach") return WorkerDetached{connections_[name], "gone"};
    if (verb == "queue_full") return WorkerQueueFull{connections_[name]};
    if (verb == "cancel") return Cancelled{streams_[name]};
    if (verb == "drain") return DrainRequested{};
    if (verb == "tick") return TimePassed{};
    if (connections_.count(verb) == 0) return std::nullopt;
    return Report(line);
  }

  Event Attach(const Line& line) {
    const bool verifier = line.Word(2) == "verifier";
    Hello hello;
    hello.role = verifier ? WorkerRole::kVerifier : WorkerRole::kDraft;
    hello.name = line.Word(1);
    hello.schema_revision = static_cast<uint32_t>(line.Number("schema", kSchemaRevision));
    hello.model_fingerprint = line.Text("model", verifier ? "target" : "draft");
    hello.vocabulary_fingerprint = line.Text("vocabulary", "words");
    hello.numerics_id = line.Text("numerics", "f32");
    hello.boot_id = "boot";
    hello.process_id = line.Number("process", 0);
    hello.context_length = static_cast<int32_t>(line.Number("context", 128));
    hello.vocabulary_size = static_cast<int32_t>(line.Number("vocabulary_size", 100));
    hello.kv_block_tokens = static_cast<int32_t>(line.Number("block_tokens", 16));
    hello.limits = {static_cast<int32_t>(line.Number("sequences", 16)),
                    static_cast<int32_t>(line.Number("rows", 512)),
                    static_cast<int32_t>(line.Number("max_window", 16))};
    hello.blocks = {line.Number("blocks", 64), line.Number("blocks", 64), 0};
    hello.step_times = {line.Number("step_ns", line.Number("step_us", 1000) * 1000),
                        line.Number("row_ns", 0)};
    const ConnectionId connection = next_connection_++;
    connections_[hello.name] = connection;
    names_[connection] = hello.name;
    return WorkerAttached{connection, hello};
  }

  Event Submit(const Line& line) {
    SubmitRequest request;
    request.request_id = line.Text("id", line.Word(1));
    request.vocabulary_fingerprint = line.Text("vocabulary", "words");
    request.token_ids = line.Tokens("prompt");
    request.max_tokens = static_cast<int32_t>(line.Number("max_tokens", 16));
    request.end_token_ids = line.Tokens("end");
    const std::string mode = line.Text("speculation", "default");
    for (int i = 0; i <= static_cast<int>(SpeculationMode::kAuto); ++i) {
      if (mode == SpeculationModeName(static_cast<SpeculationMode>(i))) {
        request.speculation = static_cast<SpeculationMode>(i);
      }
    }
    if (line.Has("window")) request.num_speculative_tokens = static_cast<int32_t>(line.Number("window", 0));
    if (line.Has("deadline")) request.deadline = line.Time("deadline", absl::ZeroDuration());
    const ConnectionId stream = next_stream_++;
    streams_[line.Word(1)] = stream;
    names_[stream] = line.Word(1);
    return Submitted{stream, request};
  }

  std::optional<Event> Report(Line line) {
    const ConnectionId connection = connections_[line.Word(0)];
    Fence fence = fences_[connection];
    fence.incarnation = static_cast<uint64_t>(line.Number("incarnation", fence.incarnation));
    fence.scheduler_epoch = static_cast<uint64_t>(line.Number("epoch", fence.scheduler_epoch));
    line.Drop(1);
    std::optional<ReportItem> item = ParseItem(line);
    if (!item.has_value()) return std::nullopt;
    return WorkerReported{connection, fence, *item};
  }

  std::optional<ReportItem> ParseItem(const Line& line) {
    const std::string verb = line.Word(0);
    const uint64_t first = static_cast<uint64_t>(line.NumberAt(1));
    const auto number = [&line](const char* key) { return static_cast<int32_t>(line.Number(key, 0)); };
    if (verb == "beats") return Heartbeat{0, 0, {64, 64, 0}};
    if (verb == "drains") return Drain{};
    if (verb == "started") return SequenceStarted{first, number("cached")};
    if (verb == "ended") return SequenceEnded{first, {64, 64, 0}};
    if (verb == "done") return VerifyRoundDone{first, {}, {64, 64, 0}};
    if (verb == "verified") {
      VerifyItemDone done{static_cast<uint64_t>(line.NumberAt(2)), number("kv"), number("accepted"),
                          std::nullopt, std::nullopt};
      if (line.Has("token")) done.correction_token = number("token");
      if (line.Has("error")) done.error = WorkerError{line.Text("error", ""), "said so"};
      return VerifyItemReport{first, done};
    }
    if (verb == "ready" || verb == "catching_up" || verb == "evicted" || verb == "absent") {
      const DraftSequenceState state = verb == "ready"         ? DraftSequenceState::kReady
                                       : verb == "catching_up" ? DraftSequenceState::kCatchingUp
                                       : verb == "evicted"     ? DraftSequenceState::kEvicted
                                                               : DraftSequenceState::kAbsent;
      return SequenceState{first, state, number("kv"), {64, 64, 0}};
    }
    if (verb == "exit") return ParseExit(line);
    if (verb == "exited") return EarlyExitRoundReport{first, line.Number("sent_at", 0), {}};
    if (verb == "rolled") {
      RolloutProgress progress;
      progress.round_id = first;
      progress.sequence_id = static_cast<uint64_t>(line.NumberAt(2));
      progress.num_accepted = number("accepted");
      progress.root_token = number("root");
      progress.first_depth = number("depth");
      progress.token_ids = line.Tokens("tokens");
      progress.last = line.Word(3) == "last";
      return progress;
    }
    return std::nullopt;
  }

  // "exit ROUND SEQUENCE DRAFTED,TOKEN:SCORE,... ...": a word for each row, "-" for the score that the last has not.
  static ReportItem ParseExit(const Line& line) {
    EarlyExitItemReport report{static_cast<uint64_t>(line.NumberAt(1)),
                               {static_cast<uint64_t>(line.NumberAt(2)), {}}};
    for (size_t word = 3; word < line.num_words(); ++word) {
      EarlyExitRow& row = report.item.rows.emplace_back();
      const std::vector<std::string> parts = absl::StrSplit(line.Word(word), ',');
      if (parts[0] != "-") row.drafted_score = std::strtof(parts[0].c_str(), nullptr);
      for (size_t part = 1; part < parts.size(); ++part) {
        const std::pair<std::string, std::string> candidate =
            absl::StrSplit(parts[part], absl::MaxSplits(':', 1));
        row.candidates.push_back(
            {static_cast<TokenId>(std::strtol(candidate.first.c_str(), nullptr, 10)),
             std::strtof(candidate.second.c_str(), nullptr)});
      }
    }
    return report;
  }

  void Show(std::vector<std::string>* answers) {
    const CoreGauges gauges = core_->Gauges();
    const CoreHealth health = core_->Health(now_);
    const CoreCounters& counters = core_->counters();
    std::vector<std::string> degraded;
    for (int i = 0; i < kNumDegradedReasons; ++i) {
      const char* name = DegradedReasonName(static_cast<DegradedReason>(i));
      if (gauges.degraded[i]) degraded.push_back(name);
    }
    answers->push_back(absl::StrCat(
        health.ready() ? "ready" : "not ready", health.draining ? ", draining" : "",
        health.stalled ? ", stalled" : "", core_->IsDrained() ? ", drained" : "", "; running ",
        gauges.num_requests_running, ", waiting ", gauges.num_requests_waiting, "; blocks ",
        gauges.kv_blocks_reserved, " of ", gauges.kv_blocks_total, ", preempted ",
        counters.preemptions, "; degraded: ",
        degraded.empty() ? "no" : absl::StrJoin(degraded, " "), "; lost ", counters.workers_lost[0],
        "+", counters.workers_lost[1], ", faulty ",
        counters.workers_faulty[0] + counters.workers_faulty[1], ", stale reports ",
        counters.stale_reports, ", missed deadlines ", counters.draft_deadlines_missed));
    const absl::Time deadline = core_->NextDeadline();
    answers->push_back(absl::StrCat(
        "next deadline ", deadline == absl::InfiniteFuture()
                              ? "never"
                              : absl::FormatDuration(deadline - absl::UnixEpoch())));
  }

  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<Core> core_;
  ConnectionId next_connection_ = 1;
  ConnectionId next_stream_ = 1001;
  std::map<std::string, ConnectionId> connections_;  // the latest of each name
  std::map<std::string, ConnectionId> streams_;
  std::map<ConnectionId, std::string> names_;
  std::map<ConnectionId, Fence> fences_;
  std::map<ConnectionId, StartVerify> rounds_;  // the latest of each
};

}  // namespace

absl::StatusOr<std::string> RunTranscript(const std::string& text) {
  Runner runner;
  std::string result;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.rfind(">", 0) == 0) continue;
    absl::StrAppend(&result, line, "\n");
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> answers;
    if (!runner.Run(line, &answers)) {
      return InvalidField(absl::StrCat("line ", number), absl::StrCat("not understood: ", line));
    }
    for (const std::string& answer : answers) absl::StrAppend(&result, "> ", answer, "\n");
  }
  return result;
}

}  // namespace mirrorsd::scheduler
