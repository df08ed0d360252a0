// The engine against a reference (transformers, float32 arithmetic on the weights as stored):
// logits, exit logits and greedy continuations of every folder on every backend of this
// build; and that the way a token was computed (prefill at once, in chunks, alone, in a window with
// wrong tokens around it) does not show in a single bit.
//
// Tolerance. Reference and engine evaluate the same real function with roundings of relative size u
// = 2^-24 and differ in the order of sums. On the way from embedding to logit a value meets, one
// after another,
//   n = L * (hidden + tokens + heads * D + hidden + inner + tokens) + hidden
// roundings: the K of each product, the keys of each attention, and up to `tokens` units in RoPE's
// angles. Each is at most u of the magnitude that is summed, which, the norms seeing to it, is that
// of the row's greatest logit. Roundings of either sign add up like a random walk (Higham and Mary,
// 2019): at most 6 sqrt(n) u on each side, so |difference| <= 12 sqrt(n) u max|row|. Measured
// differences are about a tenth of it; the smallest gap between best and second-best logit on the
// greedy way is many times larger (asserted), so that what passes here cannot flip a token.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/engine/backend/backends.h"
#include "workers/engine/engine.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/logits.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {
namespace {

constexpr const char* kFolders[] = {"llama3-gqa-tied-bf16", "llama2-mha-f32",
                                    "llama-sharded-f16-headdim", "mistral-window-bf16",
                                    "qwen2-bias-f32",       "qwen3-qknorm-bf16",
                                    "opt-relu-f32"};

struct Prompt {
  std::vector<TokenId> ids, greedy_ids;
  double min_gap_in_std = 0;
  std::vector<float> logits, exit_logits;
};

struct Golden {
  int32_t early_exit_layer = 0;
  std::vector<Prompt> prompts;
};

std::vector<float> Floats(const StoredTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

// The tensors are spans of `bytes`.
std::vector<StoredTensor> OpenExpected(const std::string& folder, std::string* bytes) {
  std::ifstream in(folder + "/expected.safetensors", std::ios::binary);
  bytes->assign(std::istreambuf_iterator<char>(in), {});
  return ParseSafetensors("expected.safetensors",
                          {reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()})
      .value();
}

Golden ReadGolden(const std::string& folder) {
  std::ifstream in(folder + "/expected.json");
  const nlohmann::json expected = nlohmann::json::parse(in);
  std::string bytes;
  const std::vector<StoredTensor> tensors = OpenExpected(folder, &bytes);
  Golden golden;
  golden.early_exit_layer = expected["early_exit_layer"];
  for (const auto& stored : expected["prompts"]) {
    const std::string index = std::to_string(golden.prompts.size());
    Prompt prompt;
    prompt.ids = stored["ids"].get<std::vector<TokenId>>();
    prompt.greedy_ids = stored["greedy_ids"].get<std::vector<TokenId>>();
    prompt.min_gap_in_std = stored["min_gap_in_std"];
    for (const StoredTensor& tensor : tensors) {
      if (tensor.name == "logits." + index) prompt.logits = Floats(tensor);
      if (tensor.name == "exit_logits." + index) prompt.exit_logits = Floats(tensor);
    }
    golden.prompts.push_back(std::move(prompt));
  }
  return golden;
}

std::vector<std::string> AvailableBackends() {
  std::vector<std::string> names;
  for (const BackendInfo& info : RegisteredBackends()) {
    if (info.available) names.push_back(info.name);
  }
  return names;
}

class ModelGolden : public ::testing::TestWithParam<std::tuple<const char*, std::string>> {
 protected:
  void SetUp() override {
    const std::string folder = std::string("tests/golden/") + std::get<0>(GetParam());
    golden_ = ReadGolden(folder);
    ASSERT_EQ(golden_.prompts.size(), 4u);
    EngineOptions options;
    options.model_dir = folder;
    options.backend = std::get<1>(GetParam());
    options.num_threads = 1;  // ThreadsDoNotShow (engine_test) covers more
    options.num_kv_blocks = 32;
    options.max_rows = 96;
    auto engine = Engine::Create(options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  // Derived above.
  double Tolerance(int64_t num_tokens, double greatest) const {
    const ModelConfig& config = engine_->config();
    const double roundings =
        config.num_layers * (2.0 * config.hidden_size + config.num_heads * config.head_dim +
                             config.intermediate_size + 2.0 * num_tokens) +
        config.hidden_size;
    return 12.0 * std::sqrt(roundings) * 0x1p-24 * greatest;
  }

  void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected,
                   int64_t num_tokens, double min_gap_in_std, const char* what) {
    ASSERT_EQ(actual.size(), expected.size());
    ASSERT_FALSE(actual.empty());
    const int64_t vocabulary = engine_->info().vocabulary_size;
    double worst = 0;
    for (int64_t row = 0; row < num_tokens; ++row) {
      double greatest = 0, difference = 0, sum = 0, squares = 0;
      for (int64_t i = row * vocabulary; i < (row + 1) * vocabulary; ++i) {
        ASSERT_TRUE(std::isfinite(actual[i]));
        greatest = std::max(greatest, std::abs(double{expected[i]}));
        difference = std::max(difference, std::abs(double{actual[i]} - expected[i]));
        sum += expected[i];
        squares += double{expected[i]} * expected[i];
      }
      const double deviation = std::sqrt(squares / vocabulary - sum * sum / vocabulary / vocabulary);
      ASSERT_LT(4 * Tolerance(num_tokens, greatest), min_gap_in_std * deviation);
      worst = std::max(worst, difference / Tolerance(num_tokens, greatest));
    }
    EXPECT_LE(worst, 1.0) << what;
    RecordProperty(std::string(what) + "_of_tolerance", std::to_string(worst));
  }

  // Runs rows of one sequence and appends their logits.
  void RunRows(const SequenceCache& cache, absl::Span<const TokenId> tokens, int32_t begin,
               std::vector<float>* logits) {
    SequenceRows rows;
    rows.token_ids = tokens;
    rows.begin = begin;
    rows.block_table = cache.block_table();
    auto result = engine_->Run({rows});
    ASSERT_TRUE(result.ok()) << result.status();
    logits->insert(logits->end(), result->data,
                   result->data + int64_t{result->num_rows} * result->vocabulary_size);
  }

  TokenId BestOfLastRow(const std::vector<float>& logits) const {
    const auto last = logits.end() - engine_->info().vocabulary_size;
    return static_cast<TokenId>(std::max_element(last, logits.end()) - last);
  }

  // Prefills in chunks, then decodes greedily; returns the logits of every row.
  std::vector<float> Generate(const Prompt& prompt, int32_t chunk,
      std::vector<TokenId>* generated) {
    SequenceCache cache(&engine_->blocks());
    const int32_t length = static_cast<int32_t>(prompt.ids.size());
    const int32_t count = static_cast<int32_t>(prompt.greedy_ids.size());
    EXPECT_TRUE(cache.Reserve(length + count));
    std::vector<float> logits;
    for (int32_t begin = 0; begin < length; begin += chunk) {
      RunRows(cache, absl::MakeConstSpan(prompt.ids).subspan(begin, chunk), begin, &logits);
    }
    for (int32_t i = 0; i < count; ++i) {
      generated->push_back(BestOfLastRow(logits));
      if (i + 1 < count) RunRows(cache, {generated->back()}, length + i, &logits);
    }
    return logits;
  }

  Golden golden_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(ModelGolden, LogitsAndExitLogits) {
  for (const Prompt& prompt : golden_.prompts) {
    auto logits = ComputePromptLogits(engine_.get(), prompt.ids, golden_.early_exit_layer);
    ASSERT_TRUE(logits.ok()) << logits.status();
    const int64_t length = static_cast<int64_t>(prompt.ids.size());
    ExpectClose(logits->logits, prompt.logits, length, prompt.min_gap_in_std, "logits");
    ExpectClose(logits->exit_logits, prompt.exit_logits, length, prompt.min_gap_in_std,
                "exit_logits");
    EXPECT_NE(logits->logits, logits->exit_logits);
  }
}

TEST_P(ModelGolden, GreedyContinuationHoweverThePromptIsCut) {
  for (const Prompt& prompt : golden_.prompts) {
    ASSERT_EQ(prompt.greedy_ids.size(), 48u);
    std::vector<TokenId> at_once, in_chunks, alone;
    const std::vector<float> logits = Generate(prompt, 96, &at_once);
    EXPECT_EQ(at_once, prompt.greedy_ids);
    // Bit for bit: memcmp over the floats, by equality of vectors without NaN.
    EXPECT_EQ(Generate(prompt, 5, &in_chunks), logits);
    EXPECT_EQ(in_chunks, prompt.greedy_ids);
    EXPECT_EQ(Generate(prompt, 1, &alone), logits);
    EXPECT_EQ(alone, prompt.greedy_ids);
  }
}

// Windows of five rows whose later tokens are wrong: the rejected rows' KV is overwritten and
// leaves no trace.
TEST_P(ModelGolden, VerifiedInWindowsWithWrongTokens) {
  const Prompt& prompt = golden_.prompts.back();
  const int64_t vocabulary = engine_->info().vocabulary_size;
  std::vector<TokenId> plain_ids;
  const std::vector<float> plain = Generate(prompt, 96, &plain_ids);

  std::vector<TokenId> tokens = prompt.ids;
  tokens.insert(tokens.end(), plain_ids.begin(), plain_ids.end());
  const int32_t length = static_cast<int32_t>(prompt.ids.size());
  SequenceCache cache(&engine_->blocks());
  ASSERT_TRUE(cache.Reserve(static_cast<int32_t>(tokens.size()) + 5));
  std::vector<float> ignored;
  RunRows(cache, prompt.ids, 0, &ignored);
  for (int32_t position = length,
      round = 0; position + 1 < static_cast<int32_t>(tokens.size()); ++round) {
    std::vector<TokenId> window = {tokens[position]};
    const int32_t num_right = round % 5;
    for (int32_t i = 1; i < 5; ++i) {
      const size_t index = position + i;
      const TokenId right = index < tokens.size() ? tokens[index] : 0;
      window.push_back(i <= num_right ? right : (right + 1) % static_cast<TokenId>(vocabulary));
    }
    std::vector<float> logits;
    RunRows(cache, window, position, &logits);
    for (int32_t i = 0; i <= num_right; ++i) {
      if ((position + i + 1) * vocabulary > static_cast<int64_t>(plain.size())) break;
      ASSERT_EQ(0, std::memcmp(&logits[i * vocabulary], &plain[(position + i) * vocabulary],
                               vocabulary * sizeof(float)))
          << "row " << i << " of round " << round;
    }
    position += num_right + 1;
  }
}

// Wherever the pass is cut for an exit head, the final logits have the same bits.
TEST_P(ModelGolden, TheExitDoesNotShowInTheFinalLogits) {
  const Prompt& prompt = golden_.prompts[1];
  std::vector<float> final_logits;
  for (int32_t layer = 1; layer <= engine_->info().num_layers; ++layer) {
    auto logits = ComputePromptLogits(engine_.get(), prompt.ids, layer);
    ASSERT_TRUE(logits.ok()) << logits.status();
    if (layer == 1) final_logits = logits->logits;
    EXPECT_EQ(logits->logits, final_logits) << "exit after layer " << layer;
    if (layer < engine_->info().num_layers) continue;
    EXPECT_EQ(logits->exit_logits, final_logits);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Folders, ModelGolden,
    ::testing::Combine(::testing::ValuesIn(kFolders), ::testing::ValuesIn(AvailableBackends())),
    [](const auto& info) {
      std::string name = std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

}  // namespace
}  // namespace mirrorsd::engine
