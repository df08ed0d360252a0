// Runs every transcript of this folder and compares. With --update the files are rewritten instead; read the
// difference before committing it.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/scenarios/transcript.h"

namespace mirrorsd::scheduler {
namespace {

bool update = false;

std::vector<std::string> TranscriptPaths() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator("tests/scenarios")) {
    if (entry.path().extension() == ".txt" && entry.path().filename() != "CMakeLists.txt") {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class ScenarioTest : public testing::TestWithParam<std::string> {};

TEST_P(ScenarioTest, IsAsWritten) {
  const std::string expected = ReadFile(GetParam());
  EXPECT_EQ(expected.rfind("# purpose: ", 0), 0u) << "the first line says what it is for";
  const absl::StatusOr<std::string> actual = RunTranscript(expected);
  ASSERT_TRUE(actual.ok()) << actual.status();
  if (update) {
    std::ofstream(GetParam()) << *actual;
    return;
  }
  EXPECT_NE(expected.find("\n> "), std::string::npos) << "nothing was ever answered";
  EXPECT_EQ(expected, *actual) << "if this is wanted: scenario_test --update, and read the diff";
}

// A transcript that no row of the table names promises nothing to anyone.
TEST(ScenarioTable, NamesEveryTranscript) {
  const std::string table = ReadFile("tests/scenarios/README.md");
  for (const std::string& path : TranscriptPaths()) {
    const std::string name = std::filesystem::path(path).stem().string();
    EXPECT_NE(table.find("`" + name + "`"), std::string::npos) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ScenarioTest, testing::ValuesIn(TranscriptPaths()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::filesystem::path(info.param).stem().string();
                         });

}  // namespace
}  // namespace mirrorsd::scheduler

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  mirrorsd::scheduler::update = argc > 1 && std::string(argv[1]) == "--update";
  return RUN_ALL_TESTS();
}
