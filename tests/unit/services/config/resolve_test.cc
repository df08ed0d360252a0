#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "services/config/options.h"

namespace mirrorsd::config {
namespace {

using Strings = std::vector<std::string>;

CommandSpec Command(Program program) {
  return {.program = program, .command_line = "mirrorsd test", .positional = program == kDoctor ? "folders" : ""};
}

Options Resolve(Program program, const Strings& arguments, const Strings& environment = {}) {
  absl::StatusOr<Invocation> invocation = ResolveOptions(Command(program), arguments, environment);
  EXPECT_TRUE(invocation.ok()) << invocation.status();
  return invocation.ok() ? *invocation->options : Options(program, {});
}

std::string ErrorOf(Program program, const Strings& arguments, const Strings& environment = {}) {
  const auto invocation = ResolveOptions(Command(program), arguments, environment);
  return invocation.ok() ? "OK" : std::string(invocation.status().message());
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string WriteYaml(const std::string& text) {
  const std::string path = ::testing::TempDir() + "mirrorsd_resolve_test.yaml";
  std::ofstream(path) << text;
  return path;
}

TEST(ResolveTest, CommandLineThenEnvironmentThenFileThenDefault) {
  const std::string file = WriteYaml("grpc_port: 1\nhttp-port: 2\nmax_num_seqs: 3\n");
  const Strings environment = {"MIRRORSD_GRPC_PORT=11", "MIRRORSD_HTTP_PORT=12", "HOME=/",
                               "MIRRORSD_CONFIG=" + file};
  const Options options = Resolve(kServe, {"--grpc-port", "21"}, environment);
  EXPECT_EQ(options.Integer("grpc-port"), 21);
  EXPECT_EQ(options.Integer("http-port"), 12);
  EXPECT_EQ(options.Integer("max-num-seqs"), 3);
  EXPECT_EQ(options.Integer("max-num-queued"), 1024);
  EXPECT_TRUE(options.IsGiven("max-num-seqs"));
  EXPECT_FALSE(options.IsGiven("max-num-queued"));
  EXPECT_EQ(options.Place("max-num-seqs"), file + ":3: max_num_seqs");
  EXPECT_EQ(options.Place("http-port"), "MIRRORSD_HTTP_PORT");
}

TEST(ResolveTest, ValuesThatLookLikeOptionsOrNothing) {
  const Options options = Resolve(
      kGenerate, {"--prompt", "--not an option", "--presence-penalty", "-1.5", "--stop", "",
                  "--stop=[a,b]", "--ignore-eos"});
  EXPECT_EQ(options.Text("prompt"), "--not an option");
  EXPECT_EQ(options.Number("presence-penalty"), -1.5);
  EXPECT_EQ(options.TextList("stop"), (Strings{"", "[a,b]"}));
  EXPECT_TRUE(options.Flag("ignore-eos"));
  EXPECT_FALSE(options.Has("seed"));
  EXPECT_TRUE(Resolve(kGenerate, {"--prompt", ""}).Has("prompt"));
}

TEST(ResolveTest, NumbersMayBeNanBecauseTheRequestIsCheckedLater) {
  EXPECT_TRUE(std::isnan(Resolve(kGenerate, {"--temperature", "nan"}).Number("temperature")));
}

TEST(ResolveTest, UnknownOptionNamesTheClosest) {
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--grpc-prot", "1"}), "did you mean --grpc-port?"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--zzzzzz=1"}), "--zzzzzz: unknown option"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--prompt", "x"}), "not an option of mirrorsd test"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"stray"}), "unexpected word"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--model"}), "--model"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--model", "a", "--model", "b"}), "--model"));
}

TEST(ResolveTest, BadValuesNameWhereTheyCameFrom) {
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--grpc-port", "65536"}), "--grpc-port: 65536"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--grpc-port", "65536"}), "0 to 65535"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--grpc-port", "x"}), "not a whole number"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--queue-timeout-s", "nan"}), "out of range"));
  EXPECT_TRUE(
      Contains(ErrorOf(kServe, {}, {"MIRRORSD_GRPC_PORT=x"}), "MIRRORSD_GRPC_PORT: 'x'"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--separate-processes=maybe"}), "neither true nor false"));
}

TEST(ResolveTest, LaterSpeculationModesSaySo) {
  const std::string later(kLaterSpeculationModes);
  for (const absl::string_view mode : absl::StrSplit(later, '|')) {
    EXPECT_TRUE(Contains(ErrorOf(kServe, {"--speculation", std::string(mode)}), "not in this version yet")) << mode;
  }
  const std::string offered(kOfferedSpeculationModes);
  for (const absl::string_view mode : absl::StrSplit(offered, '|')) {
    EXPECT_EQ(ErrorOf(kServe, {"--speculation", std::string(mode)}), "OK") << mode;
  }
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--speculation", "other"}), "off or serial"));
}

TEST(ResolveTest, BranchesHaveTheirLimits) {
  EXPECT_EQ(ErrorOf(kScheduler, {"--branch-top-k", "32", "--branch-budget", "1", "--miss-fallback", "hold"}), "OK");
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--branch-top-k", "0"}), "1 to 32"));
  EXPECT_TRUE(Contains(ErrorOf(kGenerate, {"--branch-top-k", "33"}), "1 to 32"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--branch-budget", "0"}), "1 to 4096"));
  EXPECT_TRUE(Contains(ErrorOf(kBenchRounds, {"--miss-fallback", "wait"}), "empty or ngram or hold"));
}

TEST(ResolveTest, UnknownYamlKeyNamesFileLineAndClosest) {
  const std::string file = WriteYaml("model: a\n\ngrpc_prot: 1\n");
  const std::string error = ErrorOf(kServe, {"--config", file});
  EXPECT_TRUE(Contains(error, file + ":3")) << error;
  EXPECT_TRUE(Contains(error, "did you mean grpc-port?")) << error;
}

TEST(ResolveTest, YamlMayServeOtherProgramsButIsCheckedWhole) {
  EXPECT_EQ(ErrorOf(kScheduler, {"--config", WriteYaml("grpc_port: 5\n")}), "OK");
  const std::string error = ErrorOf(kScheduler, {"--config", WriteYaml("grpc_port: x\n")});
  EXPECT_TRUE(Contains(error, ":1: grpc_port")) << error;
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--config", WriteYaml("grpc_port: [1, 2]\n")}), "one value"));
  EXPECT_TRUE(Contains(ErrorOf(kServe, {"--config", "/no/such.yaml"}), "/no/such.yaml"));
}

TEST(ResolveTest, PositionalWordsGoWhereTheCommandWantsThem) {
  EXPECT_EQ(Resolve(kDoctor, {"a", "--model", "m", "b"}).TextList("folders"), (Strings{"a", "b"}));
}

TEST(ResolveTest, ChildrenGetWhatWasGivenAndNotTheFile) {
  const std::string file = WriteYaml("model: dir\nmax_num_seqs: 3\n");
  const Options options = Resolve(kServe, {"--config", file, "--draft-threads", "1"});
  EXPECT_EQ(options.ArgumentsFor(kVerifierWorker), (Strings{"--model=dir", "--max-num-seqs=3"}));
  EXPECT_EQ(options.ArgumentsFor(kDraftWorker), (Strings{"--draft-threads=1", "--max-num-seqs=3"}));
}

TEST(ResolveTest, HelpWinsOverEverythingElse) {
  const auto invocation = ResolveOptions(Command(kServe), {"--help"}, {"MIRRORSD_GRPC_PORT=x"});
  ASSERT_TRUE(invocation.ok()) << invocation.status();
  EXPECT_TRUE(invocation->help);
}

}  // namespace
}  // namespace mirrorsd::config
