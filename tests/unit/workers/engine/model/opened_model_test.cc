#include "workers/engine/model/opened_model.h"

#include <algorithm>
#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/micro_model.h"
#include "workers/engine/model/fingerprint.h"

namespace mirrorsd::engine {
namespace {

using testing::MicroModelOptions;

OpenedModel Open(const std::function<void(nlohmann::json*, std::vector<MemoryTensor>*)>& change = {},
                 const MicroModelOptions& options = {}) {
  nlohmann::json config = nlohmann::json::parse(testing::MicroModelConfig(options));
  std::vector<MemoryTensor> tensors = testing::MicroModelTensors(options);
  if (change) change(&config, &tensors);
  return OpenModel(MakeMemorySource("<model>", config.dump(), std::move(tensors))).value();
}

TEST(OpenedModel, CountsWhatTheModelNeeds) {
  MicroModelOptions options;
  options.tied_head = true;
  const OpenedModel model = Open({}, options);
  // Embedding, final norm; per layer two norms, q and o, k and v, gate, up, down.
  const int64_t layer = 2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32;
  EXPECT_EQ(model.num_parameters, 64 * 32 + 32 + 2 * layer);
  EXPECT_EQ(model.stored_bytes, 4 * model.num_parameters);
  EXPECT_EQ(model.type_names, "F32");
  EXPECT_EQ(model.tensors.size(), 2u + 2 * 9);
}

TEST(Fingerprint, IsOfWhatTheModelComputes) {
  const std::string fingerprint = ModelFingerprint(Open());
  EXPECT_EQ(fingerprint.size(), 64u);
  EXPECT_EQ(fingerprint, ModelFingerprint(Open()));
  // What does not bear on the result does not count: spelling, order, extra tensors.
  EXPECT_EQ(fingerprint, ModelFingerprint(Open([](auto* config, auto* tensors) {
              (*config)["transformers_version"] = "9.9";
              (*config)["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
              config->erase("rope_theta");
              std::reverse(tensors->begin(), tensors->end());
              tensors->push_back({"unused", StoredType::kU8, {1}, {7}});
            })));
  EXPECT_NE(fingerprint, ModelFingerprint(Open([](auto* config, auto*) {
              (*config)["rms_norm_eps"] = 1e-6;
            })));
  EXPECT_NE(fingerprint, ModelFingerprint(Open([](auto* config, auto*) {
              (*config)["rope_theta"] = 10001.0;
            })));
}

TEST(Fingerprint, SeesAnyChangeOfASmallTensor) {
  const std::string fingerprint = ModelFingerprint(Open());
  for (const size_t byte : {size_t{0}, size_t{1}, size_t{63}, size_t{127}}) {
    EXPECT_NE(fingerprint, ModelFingerprint(Open([&](auto*, auto* tensors) {
                for (MemoryTensor& tensor : *tensors) {
                  if (tensor.name == "model.norm.weight") tensor.bytes[byte] ^= 1;
                }
              })));
  }
}

TEST(Fingerprint, SamplesALargeTensorFromEndToEnd) {
  MicroModelOptions options;
  options.vocabulary_size = 640;  // the embedding has 80 KiB: more than is read
  const std::string fingerprint = ModelFingerprint(Open({}, options));
  const auto changed = [&](size_t begin, size_t count) {
    return fingerprint != ModelFingerprint(Open([&](auto*, auto* tensors) {
             for (size_t i = begin; i < begin + count; ++i) tensors->front().bytes[i] ^= 1;
           }, options));
  };
  ASSERT_EQ(testing::MicroModelTensors(options).front().bytes.size(), 81920u);
  EXPECT_TRUE(changed(0, 1));
  EXPECT_TRUE(changed(81919, 1));
  for (size_t begin = 0; begin < 81920; begin += 4096) EXPECT_TRUE(changed(begin, 4096)) << begin;
}

}  // namespace
}  // namespace mirrorsd::engine
