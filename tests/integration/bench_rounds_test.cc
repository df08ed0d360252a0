// `bench rounds` over a real cell in this process and the bundled pair: what it reports is what the cell's own
// statistics say, and a token that differs is seen.

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/bench/rounds/report.h"
#include "services/bench/rounds/rounds_command.h"
#include "services/bench/rounds/run.h"

namespace mirrorsd::bench {
namespace {

using ::testing::HasSubstr;

constexpr config::CommandSpec kSpec = {.program = config::kBenchRounds, .command_line = "mirrorsd bench rounds"};

config::Options OptionsOf(std::vector<std::string> further) {
  further.insert(further.end(), {"--model=models/demo-target", "--draft-model=models/demo-draft", "--threads=1",
                                 "--draft-threads=1"});
  auto invocation = config::ResolveOptions(kSpec, further, {});
  EXPECT_TRUE(invocation.ok()) << invocation.status();
  return *invocation->options;
}

// Passes everything on to a real cell, keeps what it said, and may change one token of one mode.
class Watched final : public MeasuredCell {
 public:
  explicit Watched(std::unique_ptr<MeasuredCell> cell) : cell_(std::move(cell)) {}

  absl::StatusOr<std::vector<Answer>> Ask(const std::vector<v1::GenerateRequest>& requests) override {
    auto answers = cell_->Ask(requests);
    if (!answers.ok()) return answers;
    if (stop_at != nullptr && ++num_asked == 12) stop_at->store(true);
    for (size_t i = 0; i < answers->size(); ++i) {
      asked.push_back({static_cast<int>(requests.size()), requests[i], (*answers)[i]});
      if (plant_in_serial && requests[i].speculation().mode() == "serial") (*answers)[i].token_ids[3] += 1;
    }
    return answers;
  }
  absl::StatusOr<std::string> Metrics() override { return cell_->Metrics(); }
  void Stop() override { cell_->Stop(); }

  struct Asked {
    int batch = 0;
    v1::GenerateRequest request;
    Answer answer;
  };
  std::vector<Asked> asked;
  bool plant_in_serial = false;
  std::atomic<bool>* stop_at = nullptr;
  int num_asked = 0;

 private:
  const std::unique_ptr<MeasuredCell> cell_;
};

class BenchRoundsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cell = StartMeasuredCell(OptionsOf({}));
    ASSERT_TRUE(cell.ok()) << cell.status();
    cell_ = std::make_unique<Watched>(*std::move(cell));
    auto prompts = ReadPromptFile("models/demo-target/held_out_prompts.jsonl");
    ASSERT_TRUE(prompts.ok()) << prompts.status();
    settings_ = {.contestants = *MakeContestants({"serial"}, {2, 4}), .batches = {1, 3}, .temperatures = {0, 1},
                 .prompts_per_category = 1, .repeats = 2, .max_tokens = 16};
    prompts_ = ChoosePrompts(settings_, *prompts);
    ASSERT_GT(prompts_.size(), 2u);
    prompts_.resize(2);
    ASSERT_NE(prompts_[0].category, prompts_[1].category);
  }

  absl::StatusOr<RoundsMeasurement> Run() {
    return RunRounds(settings_, prompts_, cell_.get(), stop_, [](int64_t, int64_t, const std::string&) {});
  }

  std::unique_ptr<Watched> cell_;
  RoundsSettings settings_;
  std::vector<Prompt> prompts_;
  std::atomic<bool> stop_{false};
};

TEST_F(BenchRoundsTest, FiguresAreWhatTheCellSaid) {
  settings_.warm_ups = 0;  // what is asked is what is counted
  const auto measurement = Run();
  ASSERT_TRUE(measurement.ok()) << measurement.status();
  int num_checked = 0;
  for (const Figure& figure : MakeFigures(settings_, *measurement)) {
    if (figure.category == kAllCategories) continue;
    double rounds = 0, accepted = 0, drafted = 0, tokens = 0, requests = 0;
    for (const Watched::Asked& asked : cell_->asked) {
      const auto& speculation = asked.request.speculation();
      const std::string& text = asked.request.has_chat() ? asked.request.chat().messages(0).content()
                                                         : asked.request.prompt();
      if (asked.batch != figure.batch || speculation.mode() != figure.contestant.mode ||
          speculation.num_speculative_tokens() != figure.contestant.window ||
          asked.request.sampling().temperature() != static_cast<float>(figure.temperature) ||
          (text == prompts_[0].text) != (figure.category == prompts_[0].category)) {
        continue;
      }
      const auto& said = asked.answer.final.speculation();
      rounds += static_cast<double>(said.rounds());
      accepted += static_cast<double>(said.accepted_tokens());
      drafted += static_cast<double>(said.drafted_tokens());
      tokens += asked.answer.final.usage().completion_tokens();
      requests += 1;
    }
    EXPECT_EQ(requests, figure.batch * settings_.repeats);
    EXPECT_EQ(figure.sums.rounds, rounds);
    EXPECT_EQ(figure.sums.accepted, accepted);
    EXPECT_EQ(figure.sums.drafted, drafted);
    EXPECT_EQ(figure.sums.tokens, tokens);
    EXPECT_GT(rounds, 0);
    EXPECT_EQ(figure.decode_rate.count, settings_.repeats);
    // A round of the cell serves up to a batch of sequences; a prompt has a round or two of its own.
    const double cell_rounds = figure.phases.Count("total") + figure.phases.prompt_rounds;
    EXPECT_GE(cell_rounds, rounds / figure.batch);
    EXPECT_LE(cell_rounds, rounds + 3 * requests);
    ++num_checked;
  }
  EXPECT_EQ(num_checked, 2 * 2 * 2 * 3);  // batches, temperatures, categories, contestants
  // All but the first answer of each prompt, temperature and sample were compared with it.
  const int64_t num_asked = static_cast<int64_t>(cell_->asked.size());
  EXPECT_EQ(measurement->num_answers_compared, num_asked - 2 * 2 * 3);
}

TEST_F(BenchRoundsTest, ATokenThatDiffersEndsTheRun) {
  cell_->plant_in_serial = true;
  const auto measurement = Run();
  ASSERT_FALSE(measurement.ok());
  EXPECT_EQ(measurement.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(measurement.status().message()), HasSubstr("TOKENS DIFFER"));
  EXPECT_THAT(std::string(measurement.status().message()), HasSubstr("position 3"));
}

TEST_F(BenchRoundsTest, StoppedEarlyItKeepsWhatItHas) {
  settings_.batches = {1};
  settings_.temperatures = {0};
  settings_.warm_ups = 0;
  settings_.repeats = 50;
  cell_->stop_at = &stop_;
  const auto measurement = Run();
  ASSERT_TRUE(measurement.ok()) << measurement.status();
  EXPECT_TRUE(measurement->interrupted);
  const auto figures = MakeFigures(settings_, *measurement);
  EXPECT_FALSE(figures.empty());
  EXPECT_THAT(RoundsTable(settings_, *measurement, figures), HasSubstr("INTERRUPTED"));
}

TEST(BenchRoundsCommandTest, WritesALineAndPlots) {
  const std::string folder = ::testing::TempDir() + "/bench_rounds_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string json = folder + "/rounds.jsonl";
  ASSERT_EQ(RunBenchRounds(OptionsOf({"--categories=story,json", "--prompts-per-category=1", "--repeats=2",
                                      "--max-tokens=12", "--windows=2,4", "--json=" + json, "--svg=" + folder})),
            cell::kExitDone);
  std::ifstream file(json);
  std::string text;
  ASSERT_TRUE(std::getline(file, text));
  const auto line = nlohmann::json::parse(text);
  EXPECT_EQ(line["figures"].size(), 3u * 3u);  // contestants; two categories and all of them
  for (const auto& figure : line["figures"]) {
    if (figure["mode"] == "off") continue;
    EXPECT_GT(figure["speed_over_plain"]["median"].get<double>(), 0);
    const double rounds = figure["rounds"], accepted = figure["accepted_tokens"];
    EXPECT_NEAR(figure["mean_acceptance_length"].get<double>(), 1 + accepted / rounds, 0.001);
  }
  for (const char* plot : {"speed_batch1_temperature0.svg", "speed_by_window.svg"}) {
    EXPECT_TRUE(std::filesystem::exists(folder + "/" + plot)) << plot;
  }
  EXPECT_EQ(RunBenchRounds(OptionsOf({"--compare=" + json, "--compare=" + json})), cell::kExitDone);
  EXPECT_EQ(RunBenchRounds(OptionsOf({"--compare=" + json})), cell::kExitUsage);
  EXPECT_EQ(RunBenchRounds(OptionsOf({"--windows=2,0"})), cell::kExitUsage);
  EXPECT_EQ(RunBenchRounds(OptionsOf({"--modes=off,mirrored"})), cell::kExitUsage);
  EXPECT_EQ(RunBenchRounds(OptionsOf({"--prompts=" + json})), cell::kExitBadInput);
}

}  // namespace
}  // namespace mirrorsd::bench
