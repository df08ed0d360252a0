#pragma once
// A hand-made stretch of a life: one verifier, one draft on the same host, one request in mirror mode, whose three
// window rounds begin with nothing, with a branch that hit and after a miss.

#include <vector>

#include "services/trace/timeline.h"

namespace mirrorsd::trace {

inline constexpr ConnectionId kVerifier = 1;
inline constexpr ConnectionId kDraft = 2;

class Scene {
 public:
  Scene();

  // The timeline of what was played.
  Timeline Make(TimelineOptions options = {}) const;

 private:
  struct Step {
    wire::RecordedEvent recorded;
    std::vector<scheduler::Action> actions;
  };

  // An event at so many milliseconds, and what the scheduler did upon it.
  void At(double ms, scheduler::Event event, std::vector<scheduler::Action> actions = {});
  // A worker's report.
  void Told(double ms, ConnectionId connection, scheduler::ReportItem item,
            std::vector<scheduler::Action> actions = {});
  void TellProgress(double ms, RoundId round, int32_t num_accepted, TokenId root, int32_t first_depth,
                    std::vector<TokenId> tokens, double computing_ms);

  void PlayPrompt();
  void PlayEmptyRound();
  void PlayHit();
  void PlayMiss();

  std::vector<Step> steps_;
};

}  // namespace mirrorsd::trace
