#include "services/journal/story.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "services/journal/replay.h"

namespace mirrorsd::journal {
namespace {

namespace pb = ::mirrorsd::internal::v1;

// Texts come from the file: nothing that moves a terminal.
std::string Shown(const std::string& text) { return absl::Utf8SafeCHexEscape(text); }

std::string Range(int64_t begin, int64_t end) { return absl::StrCat("[", begin, ", ", end, ")"); }

const char* StateName(DraftSequenceState state) {
  switch (state) {
    case DraftSequenceState::kAbsent: return "has not got it";
    case DraftSequenceState::kCatchingUp: return "catches up";
    case DraftSequenceState::kReady: return "is ready";
    case DraftSequenceState::kEvicted: return "evicted it";
  }
  return "unknown";
}

const char* FinishName(pb::FinishReason reason) {
  switch (reason) {
    case pb::FINISH_REASON_STOP: return "stop";
    case pb::FINISH_REASON_LENGTH: return "length";
    case pb::FINISH_REASON_CANCELLED: return "cancelled";
    case pb::FINISH_REASON_ERROR: return "error";
    default: return "unknown";
  }
}

}  // namespace

Story::Story(const JournalHead& head, std::string request_id)
    : request_id_(std::move(request_id)), default_mode_(head.life.config.speculation),
      holds_(head.life.config.miss_fallback == MissFallback::kHold) {
  for (const pb::JournalWorker& worker : head.ring.workers()) {
    workers_[worker.connection()] =
        absl::StrCat(worker.is_draft() ? "draft " : "verifier ", Shown(worker.name()));
  }
  for (const pb::JournalAlive& alive : head.ring.alive()) {
    if (alive.request_id() != request_id_) continue;
    streams_.insert(alive.stream());
    for (const pb::JournalPlace& place : alive.places()) {
      const auto worker = workers_.find(place.connection());
      const bool is_draft = worker != workers_.end() && worker->second.rfind("draft", 0) == 0;
      places_[place.sequence_id()] = {place.connection(), is_draft};
    }
  }
}

std::string Story::WorkerName(ConnectionId connection) const {
  const auto found = workers_.find(connection);
  return found != workers_.end() ? found->second : absl::StrCat("worker of connection ", connection);
}

void Story::Say(const std::string& text) {
  lines_.push_back(absl::StrFormat("%9s %12s s  %s", absl::StrCat("#", number_),
                                   absl::StrFormat("%.6f", absl::ToDoubleSeconds(now_ - first_)),
                                   text));
  outcome_is_last_ = false;
}

void Story::See(uint64_t number, const wire::RecordedEvent& recorded) {
  number_ = number;
  now_ = recorded.now;
  if (first_ == absl::InfinitePast()) first_ = now_;
  outcome_is_last_ = false;
  if (const auto* submitted = std::get_if<scheduler::Submitted>(&recorded.event)) {
    See(*submitted);
  } else if (const auto* cancelled = std::get_if<scheduler::Cancelled>(&recorded.event)) {
    if (IsOurs(cancelled->stream)) Say("the client cancelled");
  } else if (const auto* attached = std::get_if<scheduler::WorkerAttached>(&recorded.event)) {
    const bool is_draft = attached->hello.role == WorkerRole::kDraft;
    workers_[attached->connection] =
        absl::StrCat(is_draft ? "draft " : "verifier ", Shown(attached->hello.name));
  } else if (const auto* detached = std::get_if<scheduler::WorkerDetached>(&recorded.event)) {
    SeeLoss(detached->connection, absl::StrCat("is lost: ", Shown(detached->reason)));
  } else if (const auto* reported = std::get_if<scheduler::WorkerReported>(&recorded.event)) {
    See(*reported);
  }
}

void Story::See(const scheduler::Submitted& submitted) {
  ++num_requests_;
  const SubmitRequest& request = submitted.request;
  if (request.request_id != request_id_) return;
  streams_.insert(submitted.stream);
  num_placements_ = 0;
  const SpeculationMode mode =
      request.speculation == SpeculationMode::kDefault ? default_mode_ : request.speculation;
  branches_ = BranchWatch({.is_mirror = mode == SpeculationMode::kMirror, .holds = holds_,
                           .max_tokens = request.max_tokens});
  const SamplingParameters& sampling = request.sampling;
  std::string text = absl::StrCat(
      "submitted: ", request.token_ids.size(), " prompt tokens, at most ", request.max_tokens,
      " more; speculation ", SpeculationModeName(request.speculation), ", temperature ",
      sampling.temperature, ", seed ", sampling.seed);
  if (request.deadline.has_value()) {
    absl::StrAppend(&text, ", deadline ", absl::FormatDuration(*request.deadline));
  }
  Say(text);
}

void Story::See(const scheduler::WorkerReported& reported) {
  if (const auto* outcome = std::get_if<scheduler::VerifyItemReport>(&reported.item)) {
    if (places_.count(outcome->item.sequence_id) > 0) SeeOutcome(*outcome);
  } else if (const auto* started = std::get_if<SequenceStarted>(&reported.item)) {
    if (places_.count(started->sequence_id) == 0) return;
    Say(absl::StrCat(WorkerName(reported.connection), " has started it; ", started->cached_length,
                     " tokens were in its prefix cache"));
  } else if (const auto* state = std::get_if<SequenceState>(&reported.item)) {
    if (places_.count(state->sequence_id) > 0) SeeDraftState(*state);
  } else if (const auto* exit = std::get_if<scheduler::EarlyExitItemReport>(&reported.item)) {
    if (places_.count(exit->item.sequence_id) > 0) SeeExit(*exit);
  } else if (const auto* progress = std::get_if<RolloutProgress>(&reported.item)) {
    if (places_.count(progress->sequence_id) > 0) branches_.SeeProgress(*progress);
  }
}

void Story::SeeExit(const scheduler::EarlyExitItemReport& report) {
  size_t num_candidates = 0;
  for (const EarlyExitRow& row : report.item.rows) num_candidates += row.candidates.size();
  Say(absl::StrCat("round ", report.round_id, ": early exit, ", num_candidates, " candidates in ",
                   report.item.rows.size(), " rows"));
}

void Story::SeeOutcome(const scheduler::VerifyItemReport& report) {
  std::string text = absl::StrCat("round ", report.round_id, ": ");
  const auto part = parts_.find(report.round_id);
  const bool inner = !report.item.correction_token.has_value();
  if (part == parts_.end()) {
    absl::StrAppend(&text, report.item.num_accepted, " accepted");
  } else if (part->second.is_prefill) {
    absl::StrAppend(&text, "prompt tokens ", Range(part->second.begin, part->second.end),
                    inner ? "" : ", the last of them");
  } else if (part->second.window == 0) {
    absl::StrAppend(&text, "no window", part->second.began_with);
  } else {
    absl::StrAppend(&text, "window of ", part->second.window, part->second.began_with, ", ",
                    report.item.num_accepted, " accepted");
  }
  if (part != parts_.end()) parts_.erase(part);
  if (!inner) {
    absl::StrAppend(&text, ", own token ", *report.item.correction_token);
    branches_.SeeOutcome(report.round_id, report.item.num_accepted, *report.item.correction_token);
    decided_round_ = report.round_id;
  }
  if (report.item.error.has_value()) {
    absl::StrAppend(&text, ": ", Shown(report.item.error->reason), " ",
                    Shown(report.item.error->message));
  }
  Say(text);
  outcome_is_last_ = true;
}

void Story::SeeDraftState(const SequenceState& state) {
  const auto known = draft_states_.find(state.sequence_id);
  if (known != draft_states_.end() && known->second == state.state) return;
  draft_states_[state.sequence_id] = state.state;
  Say(absl::StrCat(WorkerName(places_[state.sequence_id].connection), " ", StateName(state.state),
                   " at ", state.draft_kv_length, " tokens"));
}

void Story::See(const pb::JournalNote& note) {
  switch (note.note_case()) {
    case pb::JournalNote::kPlaced:
      return SeePlaced(note.placed());
    case pb::JournalNote::kRound:
      return SeeRound(note.round());
    case pb::JournalNote::kRollout:
      return SeeRollout(note.rollout());
    case pb::JournalNote::kEndedAt:
      return SeeEndedAt(note.ended_at().sequence_id());
    case pb::JournalNote::kCommit:
      return SeeCommit(note.commit());
    case pb::JournalNote::kFailure:
      return SeeFailure(note.failure());
    case pb::JournalNote::kCloseWorker:
      return SeeLoss(note.close_worker().connection(),
                     absl::StrCat("is closed: ", Shown(note.close_worker().reason())));
    case pb::JournalNote::kRefuseWorker:
    case pb::JournalNote::NOTE_NOT_SET:
      return;
  }
}

void Story::SeePlaced(const pb::JournalPlaced& placed) {
  if (!IsOurs(placed.stream())) return;
  const std::string worker = WorkerName(placed.connection());
  const bool is_draft = worker.rfind("draft", 0) == 0;
  places_[placed.sequence_id()] = {placed.connection(), is_draft};
  if (is_draft) {
    return Say(absl::StrCat(worker, " follows it as sequence ", placed.sequence_id(), ", ",
                            placed.total_length(), " tokens"));
  }
  const int32_t output = placed.total_length() - placed.prompt_length();
  Say(absl::StrCat(num_placements_++ == 0 && output == 0 ? "placed at " : "placed again at ", worker,
                   " as sequence ", placed.sequence_id(), ": ", placed.total_length(), " tokens",
                   output > 0 ? absl::StrCat(", ", output, " of them output") : ""));
}

void Story::SeeRound(const pb::JournalRound& round) {
  for (const pb::JournalRoundItem& item : round.items()) {
    if (places_.count(item.sequence_id()) == 0) continue;
    std::string began_with;
    const RoundBeginning beginning = item.is_prefill() ? RoundBeginning{} : branches_.SeeRound(item.window());
    if (beginning.hit_depth > 0 || beginning.miss.has_value()) {
      began_with = absl::StrCat(" (", Describe(beginning), ")");
    }
    parts_[round.round_id()] = {item.is_prefill(), item.begin(), item.end(), item.window(), began_with};
  }
}

// A serial draft is told by the round that it was for.
void Story::SeeRollout(const pb::JournalRollout& rollout) {
  if (places_.count(rollout.sequence_id()) == 0) return;
  std::vector<RolloutRoot> roots;
  for (int i = 0; i < std::min(rollout.root_size(), rollout.num_accepted_size()); ++i) {
    RolloutRoot root{.num_accepted = rollout.num_accepted(i)};
    if (rollout.root(i) >= 0) root.token = rollout.root(i);
    roots.push_back(root);
  }
  branches_.SeeRollout(rollout.round_id(), roots);
  if (rollout.round_id() == decided_round_) return;
  Say(absl::StrCat("round ", rollout.round_id(), ": ", WorkerName(rollout.connection()), " is to roll out ",
                   roots.size(), roots.size() == 1 ? " branch of " : " branches of ", rollout.depth(),
                   rollout.is_from_exit() ? " tokens, from the early exit" : " tokens"));
}

void Story::SeeCommit(const pb::JournalCommit& commit) {
  if (!IsOurs(commit.stream())) return;
  const pb::Committed& committed = commit.committed();
  const int64_t begin = committed.output_index();
  branches_.SeeCommitted(committed.output_index() + committed.origins_size());
  if (committed.origins_size() > 0) {
    const std::string text =
        absl::StrCat("output ", Range(begin, begin + committed.origins_size()), " committed");
    if (outcome_is_last_) {
      absl::StrAppend(&lines_.back(), "; ", text);
    } else {
      Say(text);
    }
  }
  if (committed.finish() == pb::FINISH_REASON_UNSPECIFIED) return;
  const pb::SpeculationStats& stats = committed.stats();
  Say(absl::StrCat("ended: ", FinishName(committed.finish()), "; ",
                   begin + committed.origins_size(), " tokens, ", stats.rounds(), " rounds (",
                   stats.empty_window_rounds(), " with empty windows), ", stats.accepted_tokens(),
                   " of ", stats.drafted_tokens(), " drafted tokens accepted, at most ",
                   stats.max_batch(), " in a round, ", stats.resumes(), " resumes, queued for ",
                   absl::FormatDuration(absl::Nanoseconds(committed.queue_time_ns()))));
  places_.clear();
}

void Story::SeeFailure(const pb::JournalFailure& failure) {
  if (!IsOurs(failure.stream())) return;
  Say(absl::StrCat("failed: ",
                   absl::StatusCodeToString(static_cast<absl::StatusCode>(failure.code())), " ",
                   Shown(failure.reason()), failure.retryable() ? " (retryable): " : " (final): ",
                   Shown(failure.message())));
  places_.clear();
}

void Story::SeeLoss(ConnectionId connection, const std::string& how) {
  for (auto place = places_.begin(); place != places_.end();) {
    if (place->second.connection != connection) {
      ++place;
      continue;
    }
    Say(absl::StrCat(WorkerName(connection), " ", how));
    place = places_.erase(place);
  }
}

// Behind the end of the request its places are forgotten: what is left is a preemption or a change of draft.
void Story::SeeEndedAt(SequenceId sequence) {
  const auto place = places_.find(sequence);
  if (place == places_.end()) return;
  Say(absl::StrCat("taken off ", WorkerName(place->second.connection), " (sequence ", sequence, ")"));
  places_.erase(place);
}

absl::StatusOr<std::string> TellStory(JournalReader* reader, const std::string& request_id) {
  Story story(reader->head(), request_id);
  if (reader->head().is_ring) {
    JournalEntry entry;
    while (true) {
      const auto more = reader->Next(&entry);
      if (!more.ok()) return more.status();
      if (!*more) break;
      if (const auto* recorded = std::get_if<wire::RecordedEvent>(&entry)) {
        story.See(reader->event_number(), *recorded);
      } else if (const auto* note = std::get_if<pb::JournalNote>(&entry)) {
        story.See(*note);
      }
    }
  } else {
    const auto report = Replay(reader, [&story](const ReplayStep& step) {
      story.See(step.number, *step.recorded);
      for (const scheduler::Action& action : step.actions) {
        pb::JournalNote note;
        if (wire::WriteNote(action, &note)) story.See(note);
      }
    });
    if (!report.ok()) return report.status();
    if (!report->difference.empty()) {
      return BadFile("life", absl::StrCat("this build does something else, and its story would not "
                                          "be what happened: ", report->difference));
    }
  }
  if (!story.found()) {
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("no request '", Shown(request_id), "' among the ",
                                  story.num_requests(), " that were submitted here"),
                     {.reason = "UNKNOWN_REQUEST", .field = "--story"});
  }
  return absl::StrCat(absl::StrJoin(story.lines(), "\n"), "\n");
}

}  // namespace mirrorsd::journal
