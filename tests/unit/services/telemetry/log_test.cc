#include "services/telemetry/log.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace mirrorsd::telemetry {
namespace {

nlohmann::json Parse(const std::string& fields) { return nlohmann::json::parse("{" + fields + "}"); }

TEST(LogTest, LineIsJsonWhateverTheTextHolds) {
  const std::string nasty = "a \"quote\"\n\ttab \\ and \x01 control";
  const auto line = Parse(FormatLogJson("gateway", nasty, {{"field", nasty}}));
  EXPECT_EQ(line["component"], "gateway");
  EXPECT_EQ(line["message"], nasty);
  EXPECT_EQ(line["field"], nasty);
}

TEST(LogTest, NumbersAndBooleansStayUnquoted) {
  const auto line = Parse(FormatLogJson(
      "serve", "m", {{"pid", 12}, {"ratio", 0.5}, {"ready", true}, {"text", "12"}}));
  EXPECT_EQ(line["pid"], 12);
  EXPECT_EQ(line["ratio"], 0.5);
  EXPECT_EQ(line["ready"], true);
  EXPECT_EQ(line["text"], "12");
}

TEST(LogTest, NumbersThatJsonLacksBecomeText) {
  const auto line = Parse(FormatLogJson(
      "serve", "m",
      {{"nan", std::numeric_limits<double>::quiet_NaN()},
       {"inf", -std::numeric_limits<double>::infinity()}}));
  EXPECT_EQ(line["nan"], "nan");
  EXPECT_EQ(line["inf"], "-inf");
}

TEST(LogTest, LevelNames) {
  LogLevel level = LogLevel::kOff;
  EXPECT_TRUE(ParseLogLevel("debug", &level));
  EXPECT_EQ(level, LogLevel::kDebug);
  EXPECT_TRUE(ParseLogLevel("off", &level));
  EXPECT_EQ(level, LogLevel::kOff);
  EXPECT_FALSE(ParseLogLevel("INFO", &level));
  EXPECT_FALSE(ParseLogLevel("", &level));
}

}  // namespace
}  // namespace mirrorsd::telemetry
