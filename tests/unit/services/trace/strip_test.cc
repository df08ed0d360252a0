#include "services/trace/strip.h"

#include <gtest/gtest.h>

#include "tests/unit/services/trace/scene.h"

namespace mirrorsd::trace {
namespace {

TEST(StripTest, ThreeRoundsOfTheScene) {
  EXPECT_EQ("\n" + StripText(Scene().Make(), {.num_rounds = 3}), R"(
rounds 2 to 4: 19.00 ms, a column is 226.2 us
verifier v           |sq=========x##############s q==========xx###############s  q========xx#############s
draft d           P1 |  1111111                    11111111111
                  P2 |            2222222222                    2222222
exit relay           |           >                            >>
round                |^2                         ^3                            ^4
q queue  = prefix  x exit head  # suffix  s sample  . wait   1 P1  2 P2  S serial  c catch-up   > exit relay

round 2         6.00 ms  window 0, 0 accepted; began with 1 miss (not_ready: no window)
round 3         7.00 ms  window 3, 1 accepted; began with 1 hit 3.0 deep
round 4         6.00 ms  window 0, 0 accepted; began with 1 miss (not_predicted: no window)
)");
}

TEST(StripTest, PromptRoundsAreLeftOutWherePossible) {
  const std::string text = StripText(Scene().Make(), {.num_rounds = 2});
  EXPECT_EQ(text.find("prompt tokens"), std::string::npos) << text;
  EXPECT_NE(StripText(Scene().Make(), {.num_rounds = 4}).find("prompt tokens"), std::string::npos);
}

TEST(StripTest, NamesCannotMoveATerminal) {
  Timeline timeline = Scene().Make();
  timeline.workers[0].name = "\x1b[2J";
  EXPECT_EQ(StripText(timeline).find('\x1b'), std::string::npos);
}

TEST(StripTest, WithoutARoundThereIsNothing) {
  EXPECT_EQ(StripText(Timeline{}), "");
  Timeline unfinished = Scene().Make();
  for (TracedRound& round : unfinished.rounds) round.done_ns = 0;
  EXPECT_EQ(StripText(unfinished), "");
}

}  // namespace
}  // namespace mirrorsd::trace
