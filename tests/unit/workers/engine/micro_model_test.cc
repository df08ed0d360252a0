// Micro models are what other tests stand on, so what they promise is tested: the same bits from a seed,
// varied text, and a noisy copy that is accepted and rejected at every row of a window.

#include "tests/support/micro_model.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "gtest/gtest.h"
#include "workers/engine/engine.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::engine {
namespace {

using testing::MicroModelOptions;

std::unique_ptr<Engine> MakeEngine(const MicroModelOptions& model) {
  EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 32;
  options.max_rows = 64;
  return Engine::Create(options, testing::MakeMicroModel(model)).value();
}

TokenId Best(absl::Span<const float> row) {
  return static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
}

// Greedy continuation of a few tokens, one pass per token.
std::vector<TokenId> Greedy(Engine* engine, const std::vector<TokenId>& prompt, int count) {
  SequenceCache cache(&engine->blocks());
  EXPECT_TRUE(cache.Reserve(static_cast<int32_t>(prompt.size()) + count));
  std::vector<TokenId> tokens = prompt;
  int32_t done = 0;
  while (static_cast<int>(tokens.size() - prompt.size()) < count) {
    SequenceRows rows;
    rows.token_ids = absl::MakeConstSpan(tokens).subspan(done);
    rows.begin = done;
    rows.block_table = cache.block_table();
    rows.logits_begin = static_cast<int32_t>(rows.token_ids.size()) - 1;
    const Logits logits = engine->Run({rows}).value();
    done = static_cast<int32_t>(tokens.size());
    tokens.push_back(Best(logits.Row(0)));
  }
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<int64_t>(prompt.size()));
  return tokens;
}

// The draft's best token at each position of a given text.
std::vector<TokenId> TeacherForced(Engine* engine, const std::vector<TokenId>& tokens) {
  SequenceCache cache(&engine->blocks());
  EXPECT_TRUE(cache.Reserve(static_cast<int32_t>(tokens.size())));
  SequenceRows rows;
  rows.token_ids = tokens;
  rows.block_table = cache.block_table();
  const Logits logits = engine->Run({rows}).value();
  std::vector<TokenId> best;
  for (int32_t r = 0; r < logits.num_rows; ++r) best.push_back(Best(logits.Row(r)));
  return best;
}

double Agreement(float noise) {
  MicroModelOptions model;
  const auto target = MakeEngine(model);
  model.noise = noise;
  const auto draft = MakeEngine(model);
  int equal = 0, total = 0;
  for (TokenId first = 0; first < 16; ++first) {
    std::vector<TokenId> tokens = {first, first + 5, first + 9};
    const auto greedy = Greedy(target.get(), tokens, 48);
    tokens.insert(tokens.end(), greedy.begin(), greedy.end());
    const auto guessed = TeacherForced(draft.get(), tokens);
    for (size_t i = 3; i < tokens.size(); ++i, ++total) equal += guessed[i - 1] == tokens[i];
  }
  return static_cast<double>(equal) / total;
}

TEST(MicroModel, TheSameSeedGivesTheSameModel) {
  MicroModelOptions a, b;
  EXPECT_EQ(MakeEngine(a)->info().model_fingerprint, MakeEngine(b)->info().model_fingerprint);
  b.seed = 7;
  EXPECT_NE(MakeEngine(a)->info().model_fingerprint, MakeEngine(b)->info().model_fingerprint);
  b = a;
  b.noise = 0.01f;
  EXPECT_NE(MakeEngine(a)->info().model_fingerprint, MakeEngine(b)->info().model_fingerprint);
}

TEST(MicroModel, GreedyTextVaries) {
  for (const int32_t vocabulary : {32, 64, 640}) {
    MicroModelOptions model;
    model.vocabulary_size = vocabulary;
    const auto engine = MakeEngine(model);
    std::set<TokenId> seen;
    std::set<std::vector<TokenId>> texts;
    for (TokenId first = 0; first < 8; ++first) {
      const auto text = Greedy(engine.get(), {first, 1, 2}, 48);
      seen.insert(text.begin(), text.end());
      texts.insert(text);
      EXPECT_GT(std::set<TokenId>(text.begin(), text.end()).size(), 8u) << "loops, from " << first;
    }
    EXPECT_EQ(texts.size(), 8u);
    EXPECT_GT(seen.size(), 24u) << vocabulary;
  }
}

TEST(MicroModel, NoiseSetsTheAgreement) {
  EXPECT_EQ(Agreement(0.0f), 1.0);
  const double slight = Agreement(0.03f), medium = Agreement(0.1f), strong = Agreement(2.0f);
  RecordProperty("slight", std::to_string(slight));
  RecordProperty("medium", std::to_string(medium));
  RecordProperty("strong", std::to_string(strong));
  EXPECT_GT(slight, 0.7);
  EXPECT_GT(medium, 0.3);
  EXPECT_LT(medium, slight);
  EXPECT_LT(strong, 0.15);
}

TEST(MicroModel, AsAFolderItIsTheSameModel) {
  const auto folder = std::filesystem::temp_directory_path() / "mirrorsd_micro_model_test";
  std::filesystem::remove_all(folder);
  for (const StoredType type : {StoredType::kF32, StoredType::kF16, StoredType::kBf16}) {
    MicroModelOptions model;
    model.type = type;
    model.biases = true;
    model.tied_head = true;
    model.eos_token_ids = {3, 4};
    ASSERT_TRUE(testing::WriteMicroModel(model, folder.string(), "tests/golden/llama2-mha-f32").ok());
    EngineOptions options;
    options.model_dir = folder.string();
    options.num_kv_blocks = 32;
    auto from_folder = Engine::Create(options);
    ASSERT_TRUE(from_folder.ok()) << from_folder.status();
    const auto in_memory = MakeEngine(model);
    EXPECT_EQ((*from_folder)->info().model_fingerprint, in_memory->info().model_fingerprint);
    EXPECT_EQ((*from_folder)->config().eos_token_ids, (std::vector<TokenId>{3, 4}));
    EXPECT_EQ(Greedy(from_folder->get(), {1, 2, 3}, 24), Greedy(in_memory.get(), {1, 2, 3}, 24));
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "tokenizer.json"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mirrorsd::engine
