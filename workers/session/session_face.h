#pragma once
// What both sessions are towards their scheduler: who they say they are, how far they have come, and the
// reports that wait to be sent. It knows the engine's description, not what is computed with it. One thread.

#include <deque>
#include <string>
#include <utility>
#include <variant>

#include "common/worker_messages.h"
#include "workers/engine/engine.h"
#include "workers/engine/tensor/clock.h"
#include "workers/session/session_progress.h"

namespace mirrorsd::workers {

// What a session is told of itself; part of every Hello.
struct SessionIdentity {
  WorkerRole role = WorkerRole::kVerifier;
  std::string model_name;              // for people; empty: the engine's
  std::string vocabulary_fingerprint;  // of tokenizer.json
  WorkerLimits limits;                 // cut down here to what the engine can do in one pass
  StepTimes step_times;                // zero: not measured
};

class SessionFace {
 public:
  // `engine`, `clock` (null: the host's) and `progress` outlive this.
  SessionFace(engine::Engine* engine, engine::Clock* clock, SessionIdentity identity,
              SessionProgress* progress);

  const WorkerLimits& limits() const { return identity_.limits; }
  int64_t NowNs() const { return clock_->NowNs(); }
  engine::Clock* clock() const { return clock_; }
  KvBlocks blocks() const;

  Hello MakeHello(const std::string& name, const std::string& boot_id) const;
  // Runs a few passes on a scratch sequence; what it finds goes into the next Hello.
  StepTimes MeasureStepTimes();
  void set_step_times(const StepTimes& times) { identity_.step_times = times; }

  // For the heartbeats; after anything that may have changed the counts.
  void ShowProgress(size_t num_sequences);
  void CountRound() { progress_->CountRound(); }

  template <typename Report>
  void Say(Report report) {
    reports_.emplace_back(std::move(report));
  }
  template <typename Emit>
  void SendReports(const Emit& emit) {
    while (!reports_.empty()) {
      WorkerReport report = std::move(reports_.front());
      reports_.pop_front();
      emit(std::move(report));
    }
  }
  // Takes back what was not sent yet and is not true any more.
  template <typename Report, typename Predicate>
  void TakeBack(const Predicate& is_void) {
    std::erase_if(reports_, [&](const WorkerReport& waiting) {
      const Report* report = std::get_if<Report>(&waiting);
      return report != nullptr && is_void(*report);
    });
  }
  bool has_reports() const { return !reports_.empty(); }
  void DropReports() { reports_.clear(); }

 private:
  engine::Engine* engine_;
  engine::Clock* clock_;
  SessionIdentity identity_;
  SessionProgress* progress_;
  std::deque<WorkerReport> reports_;
};

}  // namespace mirrorsd::workers
