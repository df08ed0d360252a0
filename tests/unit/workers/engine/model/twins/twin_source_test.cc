#include "workers/engine/model/twins/twin_source.h"

#include <cmath>
#include <map>
#include <set>

#include "common/error.h"
#include "common/sha256.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/engine/logits.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/twins/twin_option.h"
#include "workers/engine/model/twins/twin_text.h"
#include "workers/engine/model/twins/twin_weights.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::engine {
namespace {

TwinSpec Spec(const std::string& option) {
  auto request = ParseTwinOption(option);
  EXPECT_TRUE(request.ok()) << request.status();
  return request->spec;
}

std::string HashOf(const TwinSpec& spec, TwinRole role, int32_t threads) {
  const auto source = MakeTwinSource({spec, role}, {.num_threads = threads});
  const auto tensors = source->OpenTensors();
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  Sha256 digest;
  for (const StoredTensor& tensor : *tensors) {
    digest.Update(tensor.name);
    digest.Update(tensor.bytes.data(), tensor.bytes.size());
  }
  return digest.FinishHex();
}

TEST(TwinSourceTest, TheSameBitsFromTheSameSeedEverywhere) {
  const TwinSpec spec = Spec("twin:micro,draft-damping=0.4,exit-damping=0.6");
  // Made once; any compiler, machine and number of threads must give it again.
  EXPECT_EQ(HashOf(spec, TwinRole::kTarget, 1),
            "56896dc8397fef5363e5e52e675b941d6ff7e1b895c2000402cd08d8f63fcb03");
  EXPECT_EQ(HashOf(spec, TwinRole::kTarget, 3), HashOf(spec, TwinRole::kTarget, 1));
  EXPECT_EQ(HashOf(Spec("twin:micro,dtype=f32,seed=7"), TwinRole::kTarget, 2),
            "46f2307c3c5679e6321d5168ef5b942d86f7ad815688e1612579bfe1e6ecf090");
  EXPECT_NE(HashOf(Spec("twin:micro,seed=2"), TwinRole::kTarget, 1),
            HashOf(Spec("twin:micro,seed=3"), TwinRole::kTarget, 1));
}

TEST(TwinWeightsTest, AnyPartIsThatPartOfTheWhole) {
  const TwinSpec spec = Spec("twin:micro,dtype=f32");
  const ModelConfig config = *ReadTwinConfig(spec);
  const TensorSpec tensor = FindFamily(config.architecture)->list_tensors(config)[0];
  std::vector<uint8_t> whole(4 * 1000), part(4 * 37);
  FillTwinTensor(spec, config, tensor, 0, absl::MakeSpan(whole));
  for (const int64_t begin : {0, 4, 36, 400, 960}) {
    FillTwinTensor(spec, config, tensor, begin, absl::MakeSpan(part));
    EXPECT_TRUE(std::equal(part.begin(), part.begin() + 4 * std::min<int64_t>(37, 1000 - begin),
                           whole.begin() + 4 * begin))
        << begin;
  }
}

TEST(TwinWeightsTest, NumbersHaveTheirMeanAndSpread) {
  const TwinSpec spec = Spec("twin:small,dtype=f32");
  const ModelConfig config = *ReadTwinConfig(spec);
  for (const TensorSpec& tensor : FindFamily(config.architecture)->list_tensors(config)) {
    if (tensor.role != TensorRole::kTokenEmbedding && tensor.role != TensorRole::kDown) continue;
    const int64_t count = tensor.shape[0] * tensor.shape[1];
    std::vector<uint8_t> bytes(4 * count);
    FillTwinTensor(spec, config, tensor, 0, absl::MakeSpan(bytes));
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double value = LoadF32(bytes.data(), DType::kF32, i);
      sum += value;
      squares += value * value;
    }
    const TensorNoise noise = NoiseOf(spec, config, tensor);
    const double mean = sum / static_cast<double>(count);
    EXPECT_NEAR(mean, 0.0, 5 * noise.spread / std::sqrt(static_cast<double>(count))) << tensor.name;
    EXPECT_NEAR(std::sqrt(squares / static_cast<double>(count)) / noise.spread, 1.0, 0.02) << tensor.name;
  }
}

TEST(TwinSpecTest, FactorsLieAboveTheirCuts) {
  TwinSpec spec = Spec("twin:micro,draft-layers=2,exit-layer=5,draft-damping=0.25,exit-damping=0.5");
  EXPECT_EQ(LayerDamping(spec, 1), 1.0);
  EXPECT_EQ(LayerDamping(spec, 2), 0.25);
  EXPECT_EQ(LayerDamping(spec, 4), 0.25);
  EXPECT_EQ(LayerDamping(spec, 5), 0.5);
  EXPECT_EQ(LayerDamping(spec, 7), 0.5);
  std::swap(spec.draft_layers, spec.exit_layer);
  EXPECT_EQ(LayerDamping(spec, 2), 0.5);
  EXPECT_EQ(LayerDamping(spec, 5), 0.25);
  spec.draft_layers = 0;
  spec.exit_layer = 4;
  EXPECT_EQ(LayerDamping(spec, 3), 1.0);
  EXPECT_EQ(LayerDamping(spec, 4), 0.5);
}

std::unique_ptr<Engine> MakeEngine(const TwinSpec& spec, TwinRole role) {
  EngineOptions options;
  options.twin = {spec, role};
  options.num_threads = 1;
  options.kv_bytes = 8 << 20;
  auto engine = Engine::Create(options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// The draft is the target's first layers, whatever damps the layers above: its logits are those of an exit there.
TEST(TwinSourceTest, TwinDraftIsTheTargetsFirstLayers) {
  const std::vector<TokenId> prompt = {5, 99, 200, 31, 7, 255, 300, 12};
  for (const char* option : {"twin:micro", "twin:micro,draft-layers=3,draft-damping=2,exit-damping=0.1",
                             "twin:micro,draft-layers=6,exit-layer=4,exit-damping=0.3,dtype=f32"}) {
    const TwinSpec spec = Spec(option);
    const auto target = MakeEngine(spec, TwinRole::kTarget);
    const auto draft = MakeEngine(spec, TwinRole::kDraft);
    EXPECT_EQ(draft->info().num_layers, spec.draft_layers);
    const auto of_target = ComputePromptLogits(target.get(), prompt, spec.draft_layers);
    const auto of_draft = ComputePromptLogits(draft.get(), prompt, 1);
    ASSERT_TRUE(of_target.ok() && of_draft.ok());
    EXPECT_EQ(of_draft->logits, of_target->exit_logits) << option;
    EXPECT_NE(of_target->logits, of_target->exit_logits) << option;
  }
}

TEST(TwinSourceTest, RefusesWhatThisMachineCannotHold) {
  const auto source = MakeTwinSource({Spec("twin:llama-3.3-70b"), TwinRole::kTarget});
  const int64_t bytes = TwinBytes({Spec("twin:llama-3.3-70b"), TwinRole::kTarget});
  EXPECT_EQ(bytes, 2 * 70'553'706'496LL);
  TwinSpec huge = Spec("twin:micro");
  nlohmann::json config = nlohmann::json::parse(huge.config_json);
  config["num_hidden_layers"] = 1024;
  config["hidden_size"] = 131072;
  config["intermediate_size"] = 1 << 20;
  huge.config_json = config.dump();
  huge.draft_layers = 0;
  huge.exit_layer = 1;
  const absl::Status status = MakeTwinSource({huge, TwinRole::kTarget})->OpenTensors().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(MakeTwinSource({huge, TwinRole::kDraft})->OpenTensors().status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TwinTextTest, EveryTokenHasATextOfItsOwn) {
  const auto files = TwinTextFiles(Spec("twin:small"));
  const auto tokenizer = nlohmann::json::parse(files.at("tokenizer.json"));
  const auto& vocabulary = tokenizer["model"]["vocab"];
  ASSERT_EQ(vocabulary.size(), 2048u);
  std::set<int> ids;
  for (const auto& [text, id] : vocabulary.items()) ids.insert(id.get<int>());
  EXPECT_EQ(ids.size(), 2048u);
  EXPECT_EQ(*ids.rbegin(), 2047);
  EXPECT_EQ(vocabulary.at("a"), 'a');
  EXPECT_EQ(vocabulary.at("\u0120"), ' ');
  EXPECT_EQ(FillerLetters(0), "a");
  EXPECT_EQ(FillerLetters(25), "z");
  EXPECT_EQ(FillerLetters(26), "aa");
  EXPECT_EQ(FillerLetters(27), "ab");
  EXPECT_EQ(FillerLetters(26 + 26 * 26), "aaa");
  EXPECT_EQ(nlohmann::json::parse(files.at("config.json")).count("eos_token_id"), 0u);
}

}  // namespace
}  // namespace mirrorsd::engine
