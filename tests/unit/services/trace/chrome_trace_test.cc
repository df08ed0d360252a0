#include "services/trace/chrome_trace.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/unit/services/trace/scene.h"

namespace mirrorsd::trace {
namespace {

using nlohmann::json;

json Events(const Timeline& timeline) {
  const json trace = json::parse(ChromeTraceText(timeline), nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(trace.is_object());
  return trace.is_object() ? trace["traceEvents"] : json::array();
}

std::vector<json> Slices(const json& events, const std::string& name) {
  std::vector<json> found;
  for (const json& event : events) {
    if (event["ph"] == "X" && event["name"] == name) found.push_back(event);
  }
  return found;
}

TEST(ChromeTraceTest, EveryEventHasWhatTheFormatAsksFor) {
  std::map<std::string, int> count;
  for (const json& event : Events(Scene().Make())) {
    ASSERT_TRUE(event["ph"].is_string());
    const std::string phase = event["ph"];
    ++count[phase];
    EXPECT_TRUE(event["pid"].is_number_integer() && event["tid"].is_number_integer()) << event;
    EXPECT_TRUE(event["ts"].is_number() && event["ts"] >= 0) << event;
    EXPECT_TRUE(event["name"].is_string()) << event;
    if (phase == "X") {
      EXPECT_TRUE(event["dur"].is_number() && event["dur"] >= 0) << event;
    }
    if (phase == "s" || phase == "t" || phase == "f") {
      EXPECT_TRUE(event["id"].is_number()) << event;
    }
  }
  EXPECT_EQ(count["s"], 1);
  EXPECT_EQ(count["t"], 1);
  EXPECT_EQ(count["f"], 1);
  EXPECT_GT(count["M"], 4);
}

TEST(ChromeTraceTest, SlicesOfAThreadNestOrFollow) {
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> threads;
  for (const json& event : Events(Scene().Make())) {
    if (event["ph"] != "X") continue;
    const double begin = event["ts"];
    threads[{event["pid"], event["tid"]}].emplace_back(begin, begin + event["dur"].get<double>());
  }
  for (const auto& [thread, slices] : threads) {
    for (const auto& a : slices) {
      for (const auto& b : slices) {
        const bool apart = a.second <= b.first + 0.002 || b.second <= a.first + 0.002;
        const bool inside = (a.first <= b.first + 0.002 && b.second <= a.second + 0.002) ||
                            (b.first <= a.first + 0.002 && a.second <= b.second + 0.002);
        EXPECT_TRUE(apart || inside) << thread.first << " " << thread.second;
      }
    }
  }
}

TEST(ChromeTraceTest, ArrowsGoFromExitHeadOverRolloutToRound) {
  const json events = Events(Scene().Make());
  const json round = Slices(events, "round 3").at(0);
  EXPECT_EQ(round["args"]["requests"][0]["hit_depth"], 3);
  EXPECT_EQ(round["args"]["requests"][0]["request"], "tale");
  EXPECT_EQ(Slices(events, "round 4").at(0)["args"]["requests"][0]["miss"], "not_predicted");
  const json rollout = Slices(events, "P2 2").at(0);
  for (const json& event : events) {
    if (event["ph"] == "s") {
      EXPECT_DOUBLE_EQ(event["ts"], 8800);
    }
    if (event["ph"] == "t") {
      EXPECT_EQ(event["ts"], rollout["ts"]);
    }
    if (event["ph"] == "f") {
      EXPECT_EQ(event["ts"], round["ts"]);
    }
    if (event["ph"] == "t") {
      EXPECT_EQ(event["pid"], rollout["pid"]);
    }
  }
  EXPECT_EQ(Slices(events, "exit relay 2").size(), 1u);
  EXPECT_EQ(Slices(events, "catch-up").size(), 1u);
  EXPECT_EQ(Slices(events, "exit head").size(), 3u);  // a prompt round had none
}

TEST(ChromeTraceTest, NamesAreEscaped) {
  Timeline timeline = Scene().Make();
  timeline.workers[0].name = "a\"\n\xff\\";
  for (auto& [stream, request] : timeline.requests) request = "r\"\x01";
  EXPECT_FALSE(Events(timeline).empty());
}

TEST(ChromeTraceTest, WhatOverlapsGetsThreadsOfItsOwn) {
  Timeline timeline = Scene().Make();
  TracedRollout beside = timeline.rollouts[1];
  beside.round = 3;
  timeline.rollouts.push_back(beside);
  std::set<int> threads;
  for (const json& event : Events(timeline)) {
    const std::string name = event["name"];
    if (event["ph"] == "X" && name.starts_with("P2")) threads.insert(event["tid"].get<int>());
  }
  EXPECT_EQ(threads.size(), 2u);
}

}  // namespace
}  // namespace mirrorsd::trace
