#include "services/journal/scenario.h"

#include <cctype>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "scheduler/transcript/printing.h"

namespace mirrorsd::journal {
namespace {

using scheduler::Action;
using scheduler::Event;

// A word of a transcript: no blank, no "=", never empty.
std::string Word(const std::string& text) {
  std::string word;
  for (const char c : text.substr(0, 64)) {
    word += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ? c : '_';
  }
  return word.empty() ? "_" : word;
}

// "1,2,9*40": runs of equal tokens are counted.
std::string Tokens(const std::vector<TokenId>& tokens) {
  std::vector<std::string> parts;
  for (size_t begin = 0, end; begin < tokens.size(); begin = end) {
    for (end = begin; end < tokens.size() && tokens[end] == tokens[begin];) ++end;
    if (end - begin > 3) {
      parts.push_back(absl::StrCat(tokens[begin], "*", end - begin));
    } else {
      for (size_t i = begin; i < end; ++i) parts.push_back(absl::StrCat(tokens[i]));
    }
  }
  return absl::StrJoin(parts, ",");
}

std::string ConfigLine(const scheduler::CoreConfig& config) {
  std::string line = absl::StrCat(
      "config window=", config.num_speculative_tokens,
      " speculation=", SpeculationModeName(config.speculation),
      " branch_top_k=", config.branch_top_k, " branch_budget=", config.branch_budget,
      " fallback=", MissFallbackName(config.miss_fallback),
      " max_num_seqs=", config.max_num_seqs, " max_queued=", config.max_queued,
      " prefill_rows=", config.max_prefill_rows_per_round,
      " queue_timeout=", absl::FormatDuration(config.queue_timeout),
      " loss_timeout=", absl::FormatDuration(config.verifier_loss_timeout),
      " worker_timeout=", absl::FormatDuration(config.worker_timeout),
      " round_timeout=", absl::FormatDuration(config.min_round_timeout),
      " end_timeout=", absl::FormatDuration(config.end_timeout),
      " stall_timeout=", absl::FormatDuration(config.stall_timeout),
      " min_draft_wait=", absl::FormatDuration(config.min_draft_wait),
      " max_draft_wait=", absl::FormatDuration(config.max_draft_wait),
      " missed_deadlines=", config.max_missed_deadlines,
      config.allow_other_numerics ? " other_numerics=1" : "",
      " epoch=", static_cast<int64_t>(config.scheduler_epoch));
  if (!config.vocabulary_fingerprint.empty()) {
    absl::StrAppend(&line, " vocabulary=", Word(config.vocabulary_fingerprint));
  }
  return line;
}

std::string AttachLine(const std::string& name, const Hello& hello) {
  return absl::StrCat(
      "attach ", name, hello.role == WorkerRole::kVerifier ? " verifier" : " draft",
      hello.schema_revision == kSchemaRevision ? "" : absl::StrCat(" schema=", hello.schema_revision),
      " model=", Word(hello.model_fingerprint), " vocabulary=", Word(hello.vocabulary_fingerprint),
      " numerics=", Word(hello.numerics_id), " context=", hello.context_length,
      " vocabulary_size=", hello.vocabulary_size, " sequences=", hello.limits.max_sequences,
      " rows=", hello.limits.max_rows, " max_window=", hello.limits.max_window,
      " blocks=", hello.blocks.total,
      hello.kv_block_tokens == 16 ? "" : absl::StrCat(" block_tokens=", hello.kv_block_tokens),
      " step_ns=", hello.step_times.base_ns, " row_ns=", hello.step_times.per_row_ns);
}

std::string SubmitLine(const std::string& name, const SubmitRequest& request) {
  std::string line = absl::StrCat("submit ", name, " prompt=", Tokens(request.token_ids),
                                  " max_tokens=", request.max_tokens,
                                  " vocabulary=", Word(request.vocabulary_fingerprint));
  if (Word(request.request_id) != name) absl::StrAppend(&line, " id=", Word(request.request_id));
  if (!request.end_token_ids.empty()) absl::StrAppend(&line, " end=", Tokens(request.end_token_ids));
  if (request.speculation == SpeculationMode::kOff) absl::StrAppend(&line, " speculation=off");
  if (request.speculation == SpeculationMode::kSerial) absl::StrAppend(&line, " speculation=serial");
  if (request.speculation == SpeculationMode::kMirror) absl::StrAppend(&line, " speculation=mirror");
  if (request.num_speculative_tokens.has_value()) {
    absl::StrAppend(&line, " window=", *request.num_speculative_tokens);
  }
  if (request.deadline.has_value()) {
    absl::StrAppend(&line, " deadline=", absl::FormatDuration(*request.deadline));
  }
  return line;
}

// What follows the worker's name.
struct ItemLine {
  std::string operator()(const Heartbeat&) const { return "beats"; }
  std::string operator()(const Drain&) const { return "drains"; }
  std::string operator()(const SequenceStarted& x) const {
    return absl::StrCat("started ", x.sequence_id, " cached=", x.cached_length);
  }
  std::string operator()(const SequenceEnded& x) const {
    return absl::StrCat("ended ", x.sequence_id);
  }
  std::string operator()(const scheduler::VerifyRoundDone& x) const {
    return absl::StrCat("done ", x.round_id);
  }
  std::string operator()(const scheduler::VerifyItemReport& x) const {
    std::string line = absl::StrCat("verified ", x.round_id, " ", x.item.sequence_id,
                                    " kv=", x.item.kv_length);
    if (x.item.num_accepted != 0) absl::StrAppend(&line, " accepted=", x.item.num_accepted);
    if (x.item.correction_token) absl::StrAppend(&line, " token=", *x.item.correction_token);
    if (x.item.error) absl::StrAppend(&line, " error=", Word(x.item.error->reason));
    return line;
  }
  std::string operator()(const RolloutProgress& x) const {
    return absl::StrCat("rolled ", x.round_id, " ", x.sequence_id, x.last ? " last" : "",
                        " accepted=", x.num_accepted, " root=", x.root_token,
                        " depth=", x.first_depth, " tokens=", Tokens(x.token_ids));
  }
  std::string operator()(const SequenceState& x) const {
    static const char* const kStates[] = {"absent", "catching_up", "ready", "evicted"};
    return absl::StrCat(kStates[static_cast<int>(x.state)], " ", x.sequence_id,
                        " kv=", x.draft_kv_length);
  }
  std::string operator()(const scheduler::EarlyExitItemReport& x) const {
    std::string line = absl::StrCat("exit ", x.round_id, " ", x.item.sequence_id);
    for (const EarlyExitRow& row : x.item.rows) {
      absl::StrAppend(&line, " ", row.drafted_score ? absl::StrCat(*row.drafted_score) : "-");
      for (const Candidate& candidate : row.candidates) {
        absl::StrAppend(&line, ",", candidate.token, ":", candidate.score);
      }
    }
    return line;
  }
  std::string operator()(const scheduler::EarlyExitRoundReport& x) const {
    return absl::StrCat("exited ", x.round_id);
  }
};

}  // namespace

Scenario::Scenario(const wire::RecordedLife& life, uint64_t from, uint64_t to)
    : config_(ConfigLine(life.config)), from_(from), to_(to) {}

std::string Scenario::Name(ConnectionId id) const {
  const auto found = connections_.find(id);
  return found != connections_.end() ? found->second : "_";
}

// Where a newer worker has the name, an older one's messages do nothing any more but pass the time.
bool Scenario::IsLatest(ConnectionId connection) const {
  const auto found = latest_.find(Name(connection));
  return found != latest_.end() && found->second == connection;
}

void Scenario::Introduce(const Event& event) {
  if (const auto* attached = std::get_if<scheduler::WorkerAttached>(&event)) {
    const std::string name = Word(attached->hello.name);
    connections_[attached->connection] = name;
    latest_[name] = attached->connection;
  } else if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
    std::string name = Word(submitted->request.request_id);
    if (!request_names_.insert(name).second) {
      absl::StrAppend(&name, "-", submitted->stream);
      request_names_.insert(name);
    }
    streams_[submitted->stream] = name;
    alive_.insert(submitted->stream);
  }
}

void Scenario::Depart(const Action& action) {
  if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    if (commit->committed.finish != FinishReason::kNone) alive_.erase(commit->stream);
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    alive_.erase(fail->stream);
  } else if (const auto* welcome = std::get_if<scheduler::WelcomeWorker>(&action)) {
    fences_[welcome->connection] = {welcome->welcome.scheduler_epoch,
                                    welcome->welcome.incarnation};
  }
}

std::string Scenario::ReportLine(const scheduler::WorkerReported& reported) const {
  const std::string item = std::visit(ItemLine{}, reported.item);
  if (item.empty()) return "";
  std::string line = absl::StrCat(Name(reported.connection), " ", item);
  const auto known = fences_.find(reported.connection);
  const Fence fence = known != fences_.end() ? known->second : Fence{};
  if (reported.fence.incarnation != fence.incarnation) {
    absl::StrAppend(&line, " incarnation=", reported.fence.incarnation);
  }
  if (reported.fence.scheduler_epoch != fence.scheduler_epoch) {
    absl::StrAppend(&line, " epoch=", static_cast<int64_t>(reported.fence.scheduler_epoch));
  }
  return line;
}

// Empty for what the form has no words for.
std::string Scenario::Line(const Event& event) const {
  struct Writer {
    const Scenario& scenario;
    std::string operator()(const scheduler::Submitted& e) {
      return SubmitLine(scenario.streams_.at(e.stream), e.request);
    }
    std::string operator()(const scheduler::Cancelled& e) {
      const auto stream = scenario.streams_.find(e.stream);
      return stream != scenario.streams_.end() ? absl::StrCat("cancel ", stream->second) : "";
    }
    std::string operator()(const scheduler::WorkerAttached& e) {
      return AttachLine(scenario.Name(e.connection), e.hello);
    }
    std::string operator()(const scheduler::WorkerDetached& e) {
      if (!scenario.IsLatest(e.connection)) return "tick";
      return absl::StrCat("detach ", scenario.Name(e.connection));
    }
    std::string operator()(const scheduler::WorkerReported& e) {
      return scenario.IsLatest(e.connection) ? scenario.ReportLine(e) : "tick";
    }
    std::string operator()(const scheduler::WorkerQueueFull& e) {
      if (!scenario.IsLatest(e.connection)) return "tick";
      return absl::StrCat("queue_full ", scenario.Name(e.connection));
    }
    std::string operator()(const scheduler::DrainRequested&) { return "drain"; }
    std::string operator()(const scheduler::TimePassed&) { return "tick"; }
  };
  return std::visit(Writer{*this}, event);
}

void Scenario::See(const ReplayStep& step) {
  if (first_ == absl::InfinitePast()) first_ = step.recorded->now;
  if (step.number == from_ && from_ > 1) {
    before_ = absl::StrCat("# It begins in the middle of that life: ", fences_.size(),
                           " workers had attached and ", alive_.size(),
                           " requests lived, so running it gives other answers.\n");
  }
  Introduce(step.recorded->event);
  if (step.number >= from_ && step.number <= to_) {
    const std::string line = Line(step.recorded->event);
    absl::StrAppend(&body_, line.empty() ? "# (an event that this form has no words for)" : "at ",
                    line.empty() ? "" : absl::FormatDuration(step.recorded->now - first_),
                    line.empty() ? "" : " ", line, "\n");
    // Connections and streams are counted apart: a transcript has one table of names for both.
    for (const Action& action : step.actions) {
      const bool of_stream = std::holds_alternative<scheduler::CommitTokens>(action) ||
                             std::holds_alternative<scheduler::FailRequest>(action);
      absl::StrAppend(&body_, "> ",
                      scheduler::Print(action, of_stream ? streams_ : connections_), "\n");
    }
  }
  for (const Action& action : step.actions) Depart(action);
}

std::string Scenario::Text() const {
  return absl::StrCat("# purpose: events ", from_, " to ", to_, " of a recorded life\n", before_,
                      config_, "\n", body_);
}

absl::StatusOr<std::pair<uint64_t, uint64_t>> ParseStretch(const std::string& option, const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  uint64_t from = 0, to = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &from) ||
      !absl::SimpleAtoi(parts[1], &to) || from < 1 || to < from) {
    return InvalidField(option, absl::StrCat("'", text, "' is no stretch"),
                        "FROM:TO, 1 <= FROM <= TO");
  }
  return std::make_pair(from, to);
}

absl::StatusOr<std::string> WriteScenario(JournalReader* reader, uint64_t from, uint64_t to) {
  Scenario scenario(reader->head().life, from, to);
  const auto report =
      Replay(reader, [&scenario](const ReplayStep& step) { scenario.See(step); });
  if (!report.ok()) return report.status();
  if (from > report->num_events) {
    return InvalidField("--scenario", absl::StrCat("the life has ", report->num_events, " events"));
  }
  return scenario.Text();
}

}  // namespace mirrorsd::journal
