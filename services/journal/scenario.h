#pragma once
// A stretch of a recorded life as a transcript in the form of tests/scenarios: the events as input lines,
// what the core did as answers. From event 1 on it can be run as it is, as far as the form has words for
// what was configured; from a later one it is to be read. One thread.

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"

namespace mirrorsd::journal {

class Scenario {
 public:
  // Events [from, to], counted from 1.
  Scenario(const wire::RecordedLife& life, uint64_t from, uint64_t to);

  // Every step of the life, in order.
  void See(const ReplayStep& step);

  std::string Text() const;

 private:
  std::string Line(const scheduler::Event& event) const;
  std::string ReportLine(const scheduler::WorkerReported& reported) const;
  std::string Name(ConnectionId id) const;
  bool IsLatest(ConnectionId connection) const;
  void Introduce(const scheduler::Event& event);
  void Depart(const scheduler::Action& action);

  const std::string config_;
  const uint64_t from_;
  const uint64_t to_;
  absl::Time first_ = absl::InfinitePast();
  std::map<ConnectionId, std::string> connections_;  // ever seen, in words that a transcript takes
  std::map<std::string, ConnectionId> latest_;               // of each name
  std::map<ConnectionId, std::string> streams_;
  std::map<ConnectionId, Fence> fences_;
  std::set<std::string> request_names_;
  std::set<ConnectionId> alive_;
  std::string before_;  // who was there already
  std::string body_;
};

// "FROM:TO", counted from 1.
// Errors:  INVALID_ARGUMENT naming `option`
absl::StatusOr<std::pair<uint64_t, uint64_t>> ParseStretch(const std::string& option, const std::string& text);

// Errors:  of Replay
absl::StatusOr<std::string> WriteScenario(JournalReader* reader, uint64_t from, uint64_t to);

}  // namespace mirrorsd::journal
