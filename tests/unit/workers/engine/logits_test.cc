#include "workers/engine/logits.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/support/micro_model.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/tensor/mapped_file.h"

namespace mirrorsd::engine {
namespace {

class Logits : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / "mirrorsd_logits_test";
    std::filesystem::remove_all(folder_);
    ASSERT_TRUE(testing::WriteMicroModel({}, folder_.string()).ok());
    options_.model_dir = folder_.string();
    options_.num_threads = 1;
    options_.num_kv_blocks = 4;
    options_.max_rows = 16;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string FieldOf(const std::vector<TokenId>& prompt, int32_t exit_layer) {
    const absl::Status status = WritePromptLogits(options_, prompt, exit_layer, Out());
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(std::filesystem::exists(Out()));
    return GetErrorInfo(status).value_or(ErrorInfo{}).field;
  }
  std::string Out() const { return (folder_ / "out.safetensors").string(); }

  std::filesystem::path folder_;
  EngineOptions options_;
};

TEST_F(Logits, WritesBothTensorsForPromptsLongerThanAPass) {
  std::vector<TokenId> prompt(40);
  for (int i = 0; i < 40; ++i) prompt[i] = (5 * i + 3) % 64;
  const absl::Status written = WritePromptLogits(options_, prompt, 1, Out());
  ASSERT_TRUE(written.ok()) << written;
  const MappedFile file = MappedFile::Open(Out(), 1 << 20).value();
  const auto tensors = ParseSafetensors(Out(), file.bytes()).value();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "exit_logits");
  EXPECT_EQ(tensors[1].name, "logits");
  options_.max_rows = 64;  // in one piece
  const auto engine = Engine::Create(options_).value();
  const PromptLogits whole = ComputePromptLogits(engine.get(), prompt, 1).value();
  for (const StoredTensor& tensor : tensors) {
    EXPECT_EQ(tensor.type, StoredType::kF32);
    EXPECT_EQ(tensor.shape, (std::vector<int64_t>{40, 64}));
    const auto& wanted = tensor.name == "logits" ? whole.logits : whole.exit_logits;
    EXPECT_EQ(0, std::memcmp(tensor.bytes.data(), wanted.data(), tensor.bytes.size()));
  }
}

TEST_F(Logits, TheExitAfterTheLastLayerIsTheEnd) {
  const auto engine = Engine::Create(options_).value();
  const PromptLogits logits = ComputePromptLogits(engine.get(), {1, 2, 3}, 2).value();
  EXPECT_EQ(logits.logits, logits.exit_logits);
  EXPECT_EQ(engine->blocks().num_referenced(), 0);
}

TEST_F(Logits, RefusesWhatIsOutOfRangeByName) {
  EXPECT_EQ(FieldOf({}, 1), "prompt_ids");
  EXPECT_EQ(FieldOf({1, 64}, 1), "prompt_ids");
  EXPECT_EQ(FieldOf({-1}, 1), "prompt_ids");
  EXPECT_EQ(FieldOf(std::vector<TokenId>(513, 1), 1), "prompt_ids");
  EXPECT_EQ(FieldOf(std::vector<TokenId>(65, 1), 1), "prompt_ids");  // more than the KV holds
  EXPECT_EQ(FieldOf({1}, 0), "early_exit_layer");
  EXPECT_EQ(FieldOf({1}, 3), "early_exit_layer");
  EXPECT_EQ(FieldOf({1}, -1), "early_exit_layer");
  options_.model_dir += "/nowhere";
  EXPECT_NE(FieldOf({1}, 1).find("nowhere/config.json"), std::string::npos);
}

}  // namespace
}  // namespace mirrorsd::engine
