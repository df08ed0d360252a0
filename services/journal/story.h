#pragma once
// What became of one request, from a journal: one line for each thing that concerns it, for an operator. Told
// from events and from notes of what was done; a whole life is repeated for the latter, a ring has them.
// One thread.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "scheduler/core/events.h"
#include "services/journal/branches/branch_watch.h"
#include "services/journal/reader.h"

namespace mirrorsd::journal {

class Story {
 public:
  Story(const JournalHead& head, std::string request_id);

  // An event, then the notes of what was done upon it.
  void See(uint64_t number, const wire::RecordedEvent& recorded);
  void See(const internal::v1::JournalNote& note);

  // Anything seen of it?
  bool found() const { return !streams_.empty(); }
  uint64_t num_requests() const { return num_requests_; }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  struct Place {
    ConnectionId connection = 0;
    bool is_draft = false;
  };
  struct Part {  // of a round
    bool is_prefill = false;
    int32_t begin = 0, end = 0, window = 0;
    std::string began_with;
  };

  void See(const scheduler::Submitted& submitted);
  void See(const scheduler::WorkerReported& reported);
  void SeeOutcome(const scheduler::VerifyItemReport& report);
  void SeeDraftState(const SequenceState& state);
  void SeeExit(const scheduler::EarlyExitItemReport& report);
  void SeeRollout(const internal::v1::JournalRollout& rollout);
  void SeePlaced(const internal::v1::JournalPlaced& placed);
  void SeeRound(const internal::v1::JournalRound& round);
  void SeeCommit(const internal::v1::JournalCommit& commit);
  void SeeFailure(const internal::v1::JournalFailure& failure);
  void SeeLoss(ConnectionId connection, const std::string& how);
  void SeeEndedAt(SequenceId sequence);

  bool IsOurs(ConnectionId stream) const { return streams_.count(stream) > 0; }
  std::string WorkerName(ConnectionId connection) const;
  void Say(const std::string& text);

  const std::string request_id_;
  const SpeculationMode default_mode_;
  const bool holds_;
  std::map<ConnectionId, std::string> workers_;  // "verifier v1", of those that were seen attaching
  std::set<ConnectionId> streams_;               // that have, or had, this request
  std::map<SequenceId, Place> places_;           // of the request that lives
  std::map<RoundId, Part> parts_;                // of the rounds that are out
  std::map<SequenceId, DraftSequenceState> draft_states_;
  BranchWatch branches_;
  RoundId decided_round_ = 0;
  int num_placements_ = 0;

  uint64_t num_requests_ = 0;
  uint64_t number_ = 0;  // of the event at hand
  absl::Time now_;
  absl::Time first_ = absl::InfinitePast();
  bool outcome_is_last_ = false;  // the last line is the outcome at hand
  std::vector<std::string> lines_;
};

// Reads all of `reader` and tells it.
// Errors:  of the reader and of Replay; NOT_FOUND where the file has no such request
absl::StatusOr<std::string> TellStory(JournalReader* reader, const std::string& request_id);

}  // namespace mirrorsd::journal
