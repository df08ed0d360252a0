#include "services/bench/result_line.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/time/clock.h"
#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/bench/machine.h"
#include "services/bench/progress.h"

namespace mirrorsd::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(ResultLine, LinesAreAppendedAndSayWhenWhereAndWhat) {
  const std::string path = ::testing::TempDir() + "/result_line_test.jsonl";
  std::filesystem::remove(path);
  nlohmann::ordered_json line = ResultHead("mirrorsd bench rounds", "a test");
  line["figures"] = {{"speed", 1.5}};
  ASSERT_TRUE(AppendLine(path, line).ok());
  line["figures"]["speed"] = 2;
  ASSERT_TRUE(AppendLine(path, line).ok());
  std::ifstream file(path);
  std::string first, second, third;
  std::getline(file, first), std::getline(file, second);
  EXPECT_FALSE(std::getline(file, third));
  const auto read = nlohmann::json::parse(second);
  EXPECT_EQ(read["figures"]["speed"], 2);
  EXPECT_EQ(nlohmann::json::parse(first)["figures"]["speed"], 1.5);
  EXPECT_THAT(read["date"].get<std::string>(), MatchesRegex("20..-..-.."));
  EXPECT_THAT(read["machine"].get<std::string>(), HasSubstr("cores"));
  EXPECT_EQ(read["command"], "mirrorsd bench rounds");
  EXPECT_EQ(read["what"], "a test");
  EXPECT_FALSE(read["commit"].get<std::string>().empty());
  std::filesystem::remove(path);
}

TEST(ResultLine, APlaceThatCannotBeWrittenIsNamed) {
  EXPECT_EQ(GetErrorInfo(AppendLine("/no/such/folder/x.jsonl", {}))->field, "/no/such/folder/x.jsonl");
}

TEST(ResultLine, NumbersKeepFourDigits) {
  EXPECT_EQ(Rounded(1234.5678), 1235);
  EXPECT_EQ(Rounded(0.00012345678), 0.0001235);
  EXPECT_EQ(Rounded(0), 0);
}

TEST(ResultLine, TheCommandLineIsOurs) { EXPECT_THAT(CommandLine(), HasSubstr("bench_test")); }

// Our own work is not others': what they and we have used cannot be more than there is.
TEST(Machine, OwnWorkIsNotOthers) {
  const OtherLoad load;
  const absl::Time start = absl::Now();
  const std::clock_t own_start = std::clock();
  volatile double sink = 0;
  while (absl::Now() - start < absl::Milliseconds(300)) sink = sink + 1;
  const double others = load.Cores();
  const double own = static_cast<double>(std::clock() - own_start) / CLOCKS_PER_SEC /
                     absl::ToDoubleSeconds(absl::Now() - start);
  EXPECT_GE(others, 0);
  EXPECT_LE(others + own, std::thread::hardware_concurrency() + 0.25);  // ticks are 10 ms
}

TEST(Progress, SaysHowFarAndHowLong) {
  EXPECT_EQ(ProgressText(5, 10, absl::Seconds(12)), "##########..........  50 % (5 of 10), 12 s left");
  EXPECT_EQ(ProgressText(1, 100, absl::Seconds(30)), "....................   1 % (1 of 100), 50 min left");
  EXPECT_EQ(ProgressText(10, 10, absl::Seconds(12)), "#################### 100 % (10 of 10)");
  EXPECT_EQ(ProgressText(0, 10, absl::Seconds(0)), "....................   0 % (0 of 10)");
}

}  // namespace
}  // namespace mirrorsd::bench
