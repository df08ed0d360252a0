#include "tests/sim/story.h"

#include <iostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mirrorsd::sim {
namespace {

using Names = std::map<ConnectionId, std::string>;

std::string NameOf(const Names& names, ConnectionId id) {
  const auto found = names.find(id);
  return found == names.end() ? absl::StrCat("#", id) : found->second;
}

std::string PrintItem(const scheduler::ReportItem& item) {
  if (std::holds_alternative<Heartbeat>(item)) return "beats";
  if (std::holds_alternative<Drain>(item)) return "drains";
  if (const auto* started = std::get_if<SequenceStarted>(&item)) {
    return absl::StrCat("started ", started->sequence_id, " cached=", started->cached_length);
  }
  if (const auto* ended = std::get_if<SequenceEnded>(&item)) {
    return absl::StrCat("ended ", ended->sequence_id);
  }
  if (const auto* done = std::get_if<scheduler::VerifyRoundDone>(&item)) {
    return absl::StrCat("done ", done->round_id);
  }
  if (const auto* report = std::get_if<scheduler::VerifyItemReport>(&item)) {
    const VerifyItemDone& done = report->item;
    return absl::StrCat(
        "verified ", report->round_id, " ", done.sequence_id, " kv=", done.kv_length,
        " accepted=", done.num_accepted,
        done.correction_token.has_value() ? absl::StrCat(" token=", *done.correction_token) : "",
        done.error.has_value() ? absl::StrCat(" error=", done.error->reason) : "");
  }
  if (const auto* progress = std::get_if<RolloutProgress>(&item)) {
    return absl::StrCat("rolled ", progress->round_id, " ", progress->sequence_id,
                        progress->last ? " last" : "", " accepted=", progress->num_accepted,
                        " root=", progress->root_token, " depth=", progress->first_depth,
                        " tokens=", absl::StrJoin(progress->token_ids, ","));
  }
  if (const auto* state = std::get_if<SequenceState>(&item)) {
    static constexpr const char* kStates[] = {"absent", "catching_up", "ready", "evicted"};
    const size_t index = static_cast<size_t>(state->state);
    return absl::StrCat(index < 4 ? kStates[index] : "unknown_state", " ", state->sequence_id,
                        " kv=", state->draft_kv_length);
  }
  if (const auto* exit = std::get_if<scheduler::EarlyExitItemReport>(&item)) {
    std::string line = absl::StrCat("exit ", exit->round_id, " ", exit->item.sequence_id);
    for (const EarlyExitRow& row : exit->item.rows) {
      absl::StrAppend(&line, " [", row.drafted_score.has_value() ? absl::StrCat(*row.drafted_score) : "-");
      for (const Candidate& candidate : row.candidates) {
        absl::StrAppend(&line, " ", candidate.token, ":", candidate.score);
      }
      absl::StrAppend(&line, "]");
    }
    return line;
  }
  if (const auto* exits = std::get_if<scheduler::EarlyExitRoundReport>(&item)) {
    return absl::StrCat("exits ", exits->round_id);
  }
  return "reports something";
}

std::string PrintHello(const Hello& hello) {
  return absl::StrCat(
      "attach ", hello.name, hello.role == WorkerRole::kVerifier ? " verifier" : " draft",
      " vocabulary=", hello.vocabulary_fingerprint, " schema=", hello.schema_revision,
      " model=", hello.model_fingerprint, " numerics=", hello.numerics_id,
      " context=", hello.context_length, " vocabulary_size=", hello.vocabulary_size,
      " sequences=", hello.limits.max_sequences, " rows=", hello.limits.max_rows,
      " max_window=", hello.limits.max_window, " block_tokens=", hello.kv_block_tokens,
      " blocks=", hello.blocks.total, " step_us=", hello.step_times.base_ns / 1000);
}

std::string PrintSubmit(const scheduler::Submitted& submitted, const Names& names) {
  const SubmitRequest& request = submitted.request;
  return absl::StrCat(
      "submit ", NameOf(names, submitted.stream), " vocabulary=", request.vocabulary_fingerprint,
      " prompt=", absl::StrJoin(request.token_ids, ","), " max_tokens=", request.max_tokens,
      request.end_token_ids.empty() ? ""
                                    : absl::StrCat(" end=", absl::StrJoin(request.end_token_ids, ",")),
      request.speculation == SpeculationMode::kOff ? " speculation=off" : "",
      request.num_speculative_tokens.has_value()
          ? absl::StrCat(" window=", *request.num_speculative_tokens)
          : "",
      request.deadline.has_value()
          ? absl::StrCat(" deadline=", absl::FormatDuration(*request.deadline))
          : "");
}

bool echoes = false;

}  // namespace

void EchoStories() { echoes = true; }

void EchoLine(const std::string& line) {
  if (echoes) std::cout << line << "\n" << std::flush;
}

std::string DescribeConfig(const Plan& plan) {
  const scheduler::CoreConfig& config = plan.config;
  const auto time = [](absl::Duration d) { return absl::FormatDuration(d); };
  return absl::StrCat(
      "config window=", config.num_speculative_tokens, " max_num_seqs=", config.max_num_seqs,
      " max_queued=", config.max_queued, " prefill_rows=", config.max_prefill_rows_per_round,
      " queue_timeout=", time(config.queue_timeout),
      " loss_timeout=", time(config.verifier_loss_timeout),
      config.vocabulary_fingerprint.empty() ? "" : " vocabulary=vocabulary",
      " epoch=", config.scheduler_epoch, " worker_timeout=", time(config.worker_timeout),
      " min_round_timeout=", time(config.min_round_timeout),
      " end_timeout=", time(config.end_timeout), " stall_timeout=", time(config.stall_timeout),
      " max_draft_wait=", time(config.max_draft_wait));
}

std::string PrintEvent(const scheduler::Event& event, const Names& names) {
  if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
    return PrintSubmit(*submitted, names);
  }
  if (const auto* cancelled = std::get_if<scheduler::Cancelled>(&event)) {
    return absl::StrCat("cancel ", NameOf(names, cancelled->stream));
  }
  if (const auto* attached = std::get_if<scheduler::WorkerAttached>(&event)) {
    return PrintHello(attached->hello);
  }
  if (const auto* detached = std::get_if<scheduler::WorkerDetached>(&event)) {
    return absl::StrCat("detach ", NameOf(names, detached->connection));
  }
  if (const auto* full = std::get_if<scheduler::WorkerQueueFull>(&event)) {
    return absl::StrCat("queue_full ", NameOf(names, full->connection));
  }
  if (const auto* reported = std::get_if<scheduler::WorkerReported>(&event)) {
    return absl::StrCat(NameOf(names, reported->connection), " ", PrintItem(reported->item),
                        " epoch=", reported->fence.scheduler_epoch,
                        " incarnation=", reported->fence.incarnation);
  }
  return std::holds_alternative<scheduler::DrainRequested>(event) ? "drain" : "tick";
}

}  // namespace mirrorsd::sim
