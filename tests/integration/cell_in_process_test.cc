// A whole cell in one process: gateway's client, scheduler, verifier and draft over real gRPC streams,
// in-process and over sockets. What it claims: the tokens of a request are those of the model, whatever
// runs beside it and whoever is lost on the way.

#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/rpc/channel.h"
#include "tests/integration/cell.h"

namespace mirrorsd::testing {
namespace {

using ::testing::Contains;
using ::testing::Not;

MicroModelOptions Target() { return {.max_positions = 1024, .seed = 7}; }

// Agrees with the target for about half of the tokens: accepts and rejects both happen.
MicroModelOptions PartlyAgreeing() {
  MicroModelOptions options = Target();
  options.noise = 0.1f;
  return options;
}

std::vector<TokenId> Prompt(int seed, int length = 12) {
  std::vector<TokenId> ids;
  for (int i = 0; i < length; ++i) ids.push_back((seed * 31 + i * 17 + i * i * seed) % 64);
  return ids;
}

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

TEST(CellTest, GoldenTokensWithSpeculationOffAndOn) {
  const std::string folder = "tests/golden/llama3-gqa-tied-bf16";
  TestCell cell;
  const absl::Status added = cell.AddFolder(folder);
  ASSERT_TRUE(added.ok()) << added;
  const nlohmann::json reference = ReadJson(folder + "/expected.json");
  for (const auto& prompt : reference.at("prompts")) {
    const auto expected = prompt.at("greedy_ids").get<std::vector<TokenId>>();
    for (SpeculationMode mode : {SpeculationMode::kOff, SpeculationMode::kSerial,
                                 SpeculationMode::kTwoCohorts, SpeculationMode::kMirror}) {
      const auto result = cell.Run(cell.Request(prompt.at("ids").get<std::vector<TokenId>>(),
                                                static_cast<int>(expected.size()), mode));
      EXPECT_TRUE(result->status.ok()) << result->status;
      EXPECT_EQ(result->tokens, expected);
      EXPECT_EQ(result->finish, FinishReason::kLength);
      EXPECT_TRUE(result->well_ordered);
      if (mode == SpeculationMode::kOff) {
        EXPECT_EQ(result->stats.drafted_tokens, 0);
      }
    }
  }
  // The draft runs the same model: the last request's windows were drafted and all accepted.
  // (A short request may be over before a starved draft has its prompt: then another one.)
  std::shared_ptr<Generation> serial;
  EXPECT_TRUE(Eventually([&] {
    serial = cell.Run(cell.Request({1, 2, 3, 4}, 40, SpeculationMode::kSerial));
    return serial->stats.accepted_tokens > 0;
  }));
  EXPECT_EQ(serial->stats.accepted_tokens, serial->stats.drafted_tokens);
  EXPECT_TRUE(cell.WaitUntilIdle());
}

TEST(CellTest, WorkersAttachOverSockets) {
  const std::string socket = absl::StrCat("unix:/tmp/mirrorsd-cell-test-", getpid(), ".sock");
  TestCell cell({.listen_addresses = {"127.0.0.1:0", socket}});
  const std::string address = absl::StrCat("127.0.0.1:", cell.scheduler().ports()[0]);
  cell.AddVerifier("v", Target(), rpc::DialTo(address));
  cell.AddDraft("d", PartlyAgreeing(), rpc::DialTo(socket));
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  const auto off = cell.Run(cell.Request(Prompt(1), 64));
  EXPECT_EQ(off->tokens.size(), 64u);
  std::shared_ptr<Generation> serial;
  EXPECT_TRUE(Eventually([&] {
    serial = cell.Run(cell.Request(Prompt(1), 64, SpeculationMode::kSerial));
    EXPECT_EQ(serial->tokens, off->tokens);
    return serial->stats.accepted_tokens > 0;
  }));
  EXPECT_LT(serial->stats.accepted_tokens, serial->stats.drafted_tokens);
}

TEST(CellTest, ManyAtOnceEqualAlone) {
  constexpr int kRequests = 64;
  TestCell cell;
  cell.AddVerifier("v", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  const auto request = [&](int i, SpeculationMode mode) {
    SubmitRequest request = cell.Request(Prompt(i, 5 + i % 23), 24 + i % 9, mode);
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
    request.sampling.seed = i;
    return request;
  };
  std::vector<std::vector<TokenId>> alone;
  for (int i = 0; i < kRequests; ++i) {
    alone.push_back(cell.Run(request(i, SpeculationMode::kOff))->tokens);
  }
  constexpr SpeculationMode kModes[] = {SpeculationMode::kSerial, SpeculationMode::kMirror,
                                        SpeculationMode::kTwoCohorts, SpeculationMode::kOff,
                                        SpeculationMode::kMirror};
  std::vector<std::shared_ptr<Generation>> together;
  for (int i = 0; i < kRequests; ++i) together.push_back(cell.Submit(request(i, kModes[i % 5])));
  int64_t max_batch = 0;
  for (int i = 0; i < kRequests; ++i) {
    together[i]->Wait();
    EXPECT_TRUE(together[i]->status.ok()) << together[i]->status;
    EXPECT_EQ(together[i]->tokens, alone[i]) << "request " << i;
    EXPECT_TRUE(together[i]->well_ordered);
    max_batch = std::max(max_batch, together[i]->stats.max_batch);
  }
  EXPECT_GE(max_batch, 16) << "the requests hardly ran together";
  EXPECT_TRUE(cell.WaitUntilIdle());
}

TEST(CellTest, CancellingHalfFreesTheirBlocks) {
  constexpr int kRequests = 32;
  TestCell cell;
  cell.AddVerifier("v", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  std::vector<std::shared_ptr<Generation>> running;
  for (int i = 0; i < kRequests; ++i) {
    running.push_back(cell.Submit(cell.Request(Prompt(i), 96, SpeculationMode::kSerial)));
  }
  for (int i = 0; i < kRequests; i += 2) {
    running[i]->WaitForTokens(2 + i % 7);
    running[i]->Cancel();
  }
  for (int i = 0; i < kRequests; ++i) {
    running[i]->Wait();
    if (i % 2 == 0) {
      EXPECT_EQ(running[i]->status.code(), absl::StatusCode::kCancelled) << running[i]->status;
      EXPECT_LT(running[i]->tokens.size(), 96u);
    } else {
      EXPECT_EQ(running[i]->tokens, cell.Run(cell.Request(Prompt(i), 96))->tokens);
    }
  }
  EXPECT_TRUE(cell.WaitUntilIdle());
}

// The next window is there when the target has decided: hits of branches over real streams.
TEST(CellTest, MirrorRoundsHitTheirBranches) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  const auto off = cell.Run(cell.Request(Prompt(3), 200));
  std::shared_ptr<Generation> mirror;
  EXPECT_TRUE(Eventually([&] {
    mirror = cell.Run(cell.Request(Prompt(3), 200, SpeculationMode::kMirror));
    EXPECT_EQ(mirror->tokens, off->tokens);
    EXPECT_TRUE(mirror->well_ordered);
    return mirror->stats.branch_hits > 5 && mirror->stats.accepted_tokens > 5;
  })) << "no branch was hit";
  // The last round has no window where one token is left to come.
  const int64_t counted = mirror->stats.branch_hits + mirror->stats.branch_misses;
  EXPECT_TRUE(counted == mirror->stats.rounds || counted == mirror->stats.rounds - 1) << counted;
  EXPECT_TRUE(cell.WaitUntilIdle());
}

class LossTest : public ::testing::TestWithParam<SpeculationMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, LossTest,
                         ::testing::Values(SpeculationMode::kSerial, SpeculationMode::kTwoCohorts,
                                           SpeculationMode::kMirror),
                         [](const auto& info) {
                           return std::string(SpeculationModeName(info.param));
                         });

TEST_P(LossTest, VerifierRestartedInMidStreamGivesTheSameTokens) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  SubmitRequest request = cell.Request(Prompt(5), 700, GetParam());
  request.sampling.temperature = 1;
  request.sampling.seed = 99;
  const auto undisturbed = cell.Run(request);
  ASSERT_EQ(undisturbed->tokens.size(), 700u);

  request.request_id = "disturbed";
  const auto disturbed = cell.Submit(request);
  disturbed->WaitForTokens(20);
  cell.RemoveVerifier("v");
  EXPECT_TRUE(cell.WaitForWorkers(0, 1));
  cell.AddVerifier("v", Target());
  disturbed->Wait();
  EXPECT_TRUE(disturbed->status.ok()) << disturbed->status;
  EXPECT_EQ(disturbed->tokens, undisturbed->tokens);
  EXPECT_EQ(disturbed->stats.resumes, 1) << "it ended before the verifier was lost";
  EXPECT_TRUE(disturbed->well_ordered);
  EXPECT_TRUE(cell.WaitUntilIdle());
}

TEST_P(LossTest, DraftRestartedInMidStreamIsDegradedAndBack) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  cell.AddDraft("d", PartlyAgreeing());
  ASSERT_TRUE(cell.WaitForWorkers(1, 1));
  const SubmitRequest plain = cell.Request(Prompt(6), 900);
  const auto expected = cell.Run(plain);

  const auto disturbed = cell.Submit(cell.Request(Prompt(6), 900, GetParam()));
  disturbed->WaitForTokens(20);
  cell.RemoveDraft("d");
  EXPECT_TRUE(cell.WaitForWorkers(1, 0));
  EXPECT_THAT(cell.Describe().speculation_degraded, Contains("draft_lost"));
  cell.AddDraft("d", PartlyAgreeing());
  EXPECT_TRUE(cell.WaitForWorkers(1, 1));
  EXPECT_THAT(cell.Describe().speculation_degraded, Not(Contains("draft_lost")));
  disturbed->Wait();
  EXPECT_TRUE(disturbed->status.ok()) << disturbed->status;
  EXPECT_EQ(disturbed->tokens, expected->tokens);

  // On a busy machine the draft may be late for a while beside that.
  EXPECT_TRUE(Eventually([&] {
    return cell.Run(cell.Request(Prompt(6), 50, GetParam()))->stats.drafted_tokens > 0;
  })) << "speculation did not come back";
  EXPECT_TRUE(Eventually([&] {
    cell.Run(cell.Request(Prompt(6), 20, GetParam()));
    return cell.Describe().speculation_degraded.empty();
  }));
}

TEST(CellTest, DrainRefusesNewRequestsAndFinishesOldOnes) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  ASSERT_TRUE(cell.WaitForWorkers(1, 0));
  EXPECT_TRUE(cell.scheduler().ready());
  const auto running = cell.Submit(cell.Request(Prompt(8), 400));
  running->WaitForTokens(1);
  cell.scheduler().Drain();
  const auto refused = cell.Run(cell.Request(Prompt(9), 4));
  EXPECT_FALSE(refused->status.ok());
  const auto info = GetErrorInfo(refused->status);
  ASSERT_TRUE(info.has_value()) << refused->status;
  EXPECT_TRUE(info->retryable);
  EXPECT_TRUE(cell.scheduler().WaitUntilDrained(absl::Seconds(30)));
  running->Wait();
  EXPECT_EQ(running->tokens.size(), 400u);
  EXPECT_FALSE(cell.scheduler().ready());
}

TEST(CellTest, RefusedWorkerIsOverForGood) {
  TestCell cell;
  cell.AddVerifier("v", Target());
  ASSERT_TRUE(cell.WaitForWorkers(1, 0));
  MicroModelOptions other = Target();
  other.seed = 8;
  cell.AddVerifier("other", other);  // another model in the same cell
  const auto over = cell.verifier("other").WaitUntilOver(absl::Seconds(20));
  ASSERT_TRUE(over.has_value());
  const auto info = GetErrorInfo(*over);
  ASSERT_TRUE(info.has_value()) << *over;
  EXPECT_EQ(info->reason, "MODEL_MISMATCH");
  EXPECT_FALSE(info->retryable);
}

}  // namespace
}  // namespace mirrorsd::testing
