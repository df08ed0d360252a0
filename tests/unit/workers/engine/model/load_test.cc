// Whole folders that are wrong: Engine::Create says which file, which tensor and what was allowed, and the
// same process loads a right one afterwards.

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "common/error.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/micro_model.h"
#include "workers/engine/engine.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/loader/safetensors_writer.h"

namespace mirrorsd::engine {
namespace {

namespace fs = std::filesystem;
using testing::MicroModelOptions;

class Load : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / (std::string("mirrorsd_load_test_") + test->name());
    fs::remove_all(folder_);
    ASSERT_TRUE(testing::WriteMicroModel({}, folder_.string()).ok());
  }
  void TearDown() override { fs::remove_all(folder_); }

  absl::StatusOr<std::unique_ptr<Engine>> Create() {
    EngineOptions options;
    options.model_dir = folder_.string();
    options.num_threads = 1;
    options.num_kv_blocks = 4;
    options.max_rows = 16;
    return Engine::Create(options);
  }

  void ExpectFailure(const std::string& reason, const std::string& file, const std::string& words,
                     const std::string& limit) {
    const auto engine = Create();
    ASSERT_FALSE(engine.ok()) << words;
    const auto info = GetErrorInfo(engine.status());
    ASSERT_TRUE(info.has_value()) << engine.status();
    EXPECT_EQ(info->reason, reason) << engine.status();
    EXPECT_EQ(info->field, file.empty() ? folder_.string() : (folder_ / file).string());
    EXPECT_NE(engine.status().ToString().find(words), std::string::npos) << engine.status();
    EXPECT_NE(info->limit.find(limit), std::string::npos) << info->limit;
    EXPECT_FALSE(info->retryable);
  }

  // Writes the micro model's tensors again, changed.
  void Rewrite(const std::function<void(std::vector<MemoryTensor>*)>& change) {
    std::vector<MemoryTensor> tensors = testing::MicroModelTensors({});
    change(&tensors);
    std::vector<StoredTensor> stored;
    for (const MemoryTensor& t : tensors) stored.push_back({t.name, t.type, "", t.shape, t.bytes,
        ""});
    ASSERT_TRUE(WriteSafetensors((folder_ / "model.safetensors").string(), stored).ok());
  }

  void WriteText(const std::string& file, const std::string& text) {
    std::ofstream(folder_ / file, std::ios::binary) << text;
  }

  fs::path folder_;
};

TEST_F(Load, ARightFolderLoads) { EXPECT_TRUE(Create().ok()) << Create().status(); }

TEST_F(Load, MissingPieces) {
  fs::remove(folder_ / "model.safetensors");
  ExpectFailure("MISSING_FILE", "", "neither model.safetensors nor", "");
  fs::remove(folder_ / "config.json");
  ExpectFailure("MISSING_FILE", "config.json", "no such file", "");
  fs::remove_all(folder_);
  ExpectFailure("MISSING_FILE", "config.json", "no such file", "");
}

TEST_F(Load, ThingsThatAreNoFiles) {
  fs::remove(folder_ / "model.safetensors");
  fs::create_directory(folder_ / "model.safetensors");
  ExpectFailure("BAD_FILE", "model.safetensors", "not a regular file", "");
  fs::remove(folder_ / "config.json");
  fs::create_directory(folder_ / "config.json");
  ExpectFailure("BAD_FILE", "config.json", "not a regular file", "");
}

TEST_F(Load, ATruncatedFileAtEveryCut) {
  const auto path = folder_ / "model.safetensors";
  const int64_t size = static_cast<int64_t>(fs::file_size(path));
  for (const int64_t cut : {size - 1, size / 2, size / 10, int64_t{1000}, int64_t{100},
      int64_t{9}, int64_t{8},
                            int64_t{7}, int64_t{0}}) {
    fs::resize_file(path, cut);
    const auto engine = Create();
    ASSERT_FALSE(engine.ok()) << cut;
    EXPECT_EQ(GetErrorInfo(engine.status())->reason, "BAD_FILE");
    EXPECT_EQ(GetErrorInfo(engine.status())->field, path.string());
  }
  ASSERT_TRUE(testing::WriteMicroModel({}, folder_.string()).ok());
  EXPECT_TRUE(Create().ok());
}

TEST_F(Load, AConfigThatIsTooLong) {
  WriteText("config.json", std::string((1 << 20) + 1, ' '));
  ExpectFailure("BAD_FILE", "config.json", "1048577 bytes", "1048576 bytes");
}

TEST_F(Load, ATensorThatIsNotThere) {
  Rewrite([](std::vector<MemoryTensor>* tensors) {
    std::erase_if(*tensors,
        [](const MemoryTensor& t) { return t.name == "model.layers.1.mlp.up_proj.weight"; });
  });
  ExpectFailure("BAD_FILE", "", "lacks the tensor \"model.layers.1.mlp.up_proj.weight\"",
                "[48, 32]");
}

TEST_F(Load, AShapeThatDoesNotFitTheConfig) {
  Rewrite([](std::vector<MemoryTensor>* tensors) {
    for (MemoryTensor& t : *tensors) {
      if (t.name == "model.layers.0.self_attn.k_proj.weight") std::swap(t.shape[0], t.shape[1]);
    }
  });
  ExpectFailure("BAD_FILE", "model.safetensors",
      "\"model.layers.0.self_attn.k_proj.weight\" has the shape [32, 16]",
                "[16, 32]");
}

TEST_F(Load, ADtypeThatNoWeightMayHave) {
  Rewrite([](std::vector<MemoryTensor>* tensors) {
    tensors->back().type = StoredType::kI32;
  });
  ExpectFailure("BAD_FILE", "model.safetensors", "has the dtype I32", "F32, F16, BF16");
}

TEST_F(Load, TensorsOfNoUseAreReadPast) {
  Rewrite([](std::vector<MemoryTensor>* tensors) {
    tensors->push_back({"model.rotary_emb.inv_freq", StoredType::kF64, {2},
        std::vector<uint8_t>(16)});
  });
  EXPECT_TRUE(Create().ok());
}

TEST_F(Load, MixedTypesInOneLayer) {
  Rewrite([](std::vector<MemoryTensor>* tensors) {
    for (MemoryTensor& t : *tensors) {
      if (t.name.find("k_proj") == std::string::npos) continue;
      std::vector<uint8_t> narrow;  // the upper halves: bf16
      for (size_t i = 0; i < t.bytes.size(); i += 4) narrow.insert(narrow.end(), {t.bytes[i + 2],
          t.bytes[i + 3]});
      t.bytes = narrow;
      t.type = StoredType::kBf16;
    }
  });
  const auto engine = Create();
  ASSERT_TRUE(engine.ok()) << engine.status();
  const std::vector<TokenId> tokens = {1, 2, 3};
  const std::vector<BlockId> table = {0};
  SequenceRows rows;
  rows.token_ids = tokens;
  rows.block_table = table;
  EXPECT_TRUE((*engine)->Run({rows}).ok());
}

TEST_F(Load, AnIndexWhoseShardsAreWrong) {
  fs::rename(folder_ / "model.safetensors", folder_ / "one.safetensors");
  const auto index = [&](const std::string& shard, const std::string& extra = "") {
    nlohmann::json map = nlohmann::json::object();
    for (const MemoryTensor& t : testing::MicroModelTensors({})) map[t.name] = shard;
    if (!extra.empty()) map[extra] = shard;
    WriteText("model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
  };
  index("one.safetensors");
  EXPECT_TRUE(Create().ok());
  index("two.safetensors");
  ExpectFailure("MISSING_FILE", "two.safetensors", "model.safetensors.index.json", "");
  index("../one.safetensors");
  ExpectFailure("BAD_FILE", "model.safetensors.index.json", "../one.safetensors", "same folder");
  index("one.safetensors", "ghost");
  ExpectFailure("BAD_FILE", "one.safetensors", "lacks the tensor \"ghost\"", "");
  WriteText("model.safetensors.index.json", "{}");
  ExpectFailure("BAD_FILE", "model.safetensors.index.json", "weight_map", "");
}

TEST_F(Load, WritingToNowhereIsAnError) {
  const absl::Status status = WriteSafetensors((folder_ / "no" / "x.safetensors").string(), {});
  EXPECT_EQ(GetErrorInfo(status)->reason, "BAD_FILE");
}

TEST(LoadFromMemory, TensorsAreLookedAtToo) {
  const auto create = [](const std::function<void(std::vector<MemoryTensor>*)>& change) {
    std::vector<MemoryTensor> tensors = testing::MicroModelTensors({});
    change(&tensors);
    EngineOptions options;
    options.num_kv_blocks = 4;
    return Engine::Create(options, MakeMemorySource("<m>", testing::MicroModelConfig({}),
        tensors)).status();
  };
  EXPECT_TRUE(create([](auto*) {}).ok());
  EXPECT_FALSE(create([](auto* t) { t->front().bytes.pop_back(); }).ok());
  EXPECT_FALSE(create([](auto* t) { t->front().shape[0] = -1; }).ok());
  EXPECT_FALSE(create([](auto* t) { t->push_back(t->front()); }).ok());
  EXPECT_FALSE(create([](auto* t) { t->pop_back(); }).ok());
}

}  // namespace
}  // namespace mirrorsd::engine
