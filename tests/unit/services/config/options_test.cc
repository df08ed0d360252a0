#include "services/config/options.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mirrorsd::config {
namespace {

constexpr CommandSpec kCommand = {.program = kServe,
                                  .command_line = "mirrorsd serve",
                                  .summary = "Serves.",
                                  .usage = "--model DIR",
                                  .notes = "Example"};

TEST(OptionTableTest, NamesAreUniqueAndEveryRowIsWhole) {
  std::set<std::string_view> names;
  for (const OptionSpec& spec : OptionTable()) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    if (!spec.alias.empty()) {
      EXPECT_TRUE(names.insert(spec.alias).second) << spec.alias;
    }
    EXPECT_FALSE(spec.help.empty()) << spec.name;
    EXPECT_FALSE(spec.group.empty()) << spec.name;
    EXPECT_NE(spec.programs, 0u) << spec.name;
    EXPECT_EQ(spec.metavar.empty(), spec.type == OptionType::kFlag) << spec.name;
    EXPECT_EQ(spec.name.find('_'), std::string_view::npos) << spec.name;
  }
}

TEST(OptionTableTest, FindsByHyphensUnderscoresAndAlias) {
  ASSERT_NE(FindOption("grpc-port"), nullptr);
  EXPECT_EQ(FindOption("grpc_port"), FindOption("grpc-port"));
  EXPECT_EQ(FindOption("port"), FindOption("http-port"));
  EXPECT_EQ(FindOption("no-such"), nullptr);
  EXPECT_EQ(EnvironmentName("grpc-port"), "MIRRORSD_GRPC_PORT");
}

TEST(HelpTest, NamesEveryOptionWithItsDefaultAndVariable) {
  const std::string help = HelpText(kCommand);
  for (const OptionSpec& spec : OptionTable()) {
    const std::string name = "  --" + std::string(spec.name);
    const bool listed = help.find(name + " ") != std::string::npos ||
                        help.find(name + ",") != std::string::npos ||
                        help.find(name + "\n") != std::string::npos;
    EXPECT_EQ(listed, (spec.programs & kServe) != 0) << spec.name;
  }
  EXPECT_NE(help.find("[default: 50051]"), std::string::npos);
  EXPECT_NE(help.find("MIRRORSD_GRPC_PORT"), std::string::npos);
  EXPECT_NE(help.find("Usage: mirrorsd serve --model DIR"), std::string::npos);
  EXPECT_NE(help.find("130 interrupted"), std::string::npos);
  size_t begin = 0;
  while (begin < help.size()) {
    const size_t end = help.find('\n', begin);
    EXPECT_LE(end - begin, 100u) << help.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(ClosestNameTest, FindsTypingErrorsAndNothingElse) {
  const std::string_view names[] = {"model", "draft-model", "grpc-port", "seed"};
  EXPECT_EQ(ClosestName("modle", names), "model");
  EXPECT_EQ(ClosestName("grpc_port", names), "grpc-port");
  EXPECT_EQ(ClosestName("draftmodel", names), "draft-model");
  EXPECT_EQ(ClosestName("completely-different", names), "");
  EXPECT_EQ(ClosestName("", names), "");
}

}  // namespace
}  // namespace mirrorsd::config
