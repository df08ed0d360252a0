#include "workers/engine/model/twins/twin_option.h"

#include <filesystem>
#include <fstream>

#include "common/error.h"
#include "gtest/gtest.h"
#include "workers/engine/model/twins/shapes.h"
#include "workers/engine/model/twins/twin_json.h"

namespace mirrorsd::engine {
namespace {

TEST(TwinOptionTest, DefaultsFollowTheShape) {
  const auto request = ParseTwinOption("twin:0.5b");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.name, "0.5b");
  EXPECT_EQ(request->spec.draft_layers, 4);
  EXPECT_EQ(request->spec.exit_layer, 12);
  EXPECT_EQ(request->spec.type, StoredType::kBf16);
  EXPECT_FALSE(request->wish.has_value());
  EXPECT_EQ(TwinBytes({request->spec, TwinRole::kTarget}), 2 * 494'005'120LL);
}

TEST(TwinOptionTest, TakesEveryKey) {
  const auto request = ParseTwinOption(
      "twin:micro,draft-layers=3,exit-layer=5,agreement=0.5,exit-recall=0.75,recall-top-k=4,"
      "seed=18446744073709551615,dtype=f32,logit-scale=2.5");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.draft_layers, 3);
  EXPECT_EQ(request->spec.exit_layer, 5);
  EXPECT_EQ(request->spec.seed, ~uint64_t{0});
  EXPECT_EQ(request->spec.type, StoredType::kF32);
  EXPECT_EQ(request->spec.logit_scale, 2.5);
  EXPECT_EQ(request->wish, (TwinWish{0.5, 0.75, 4}));
}

TEST(TwinOptionTest, IsReadBackAsItIsWritten) {
  auto request = ParseTwinOption("twin:small,draft-damping=0.1234567890123,exit-damping=3e-5,seed=9");
  ASSERT_TRUE(request.ok()) << request.status();
  const std::string text = TwinOptionText(request->spec, "small");
  const auto again = ParseTwinOption(text);
  ASSERT_TRUE(again.ok()) << text << ": " << again.status();
  EXPECT_EQ(again->spec, request->spec);
  EXPECT_EQ(ShapeOfOption(text), "small");
}

struct Wrong {
  const char* text;
  const char* named;  // what the message must name
};

TEST(TwinOptionTest, RefusesWhatIsWrongByName) {
  const Wrong cases[] = {
      {"", "form"},
      {"twin", "form"},
      {"safetensors", "form"},
      {"twin:", "neither a shape"},
      {"twin:7b", "small"},
      {"twin:micro,", "no key"},
      {"twin:micro,,", "no key"},
      {"twin:micro,depth=3", "draft-layers"},
      {"twin:micro,seed", "no value"},
      {"twin:micro,seed=", "no value"},
      {"twin:micro,seed=1,seed=1", "twice"},
      {"twin:micro,seed=-1", "2^64"},
      {"twin:micro,seed=18446744073709551616", "2^64"},
      {"twin:micro,draft-layers=9", "0 (no draft) to 8"},
      {"twin:micro,draft-layers=99999999999", "draft-layers"},
      {"twin:micro,exit-layer=0", "exit-layer"},
      {"twin:micro,agreement=1.1", "0 to 1"},
      {"twin:micro,agreement=nan", "0 to 1"},
      {"twin:micro,agreement=0.5x", "0 to 1"},
      {"twin:micro,exit-recall=0.9", "without agreement"},
      {"twin:micro,recall-top-k=4", "without agreement"},
      {"twin:micro,agreement=0.5,recall-top-k=4", "without exit-recall"},
      {"twin:micro,agreement=0.5,exit-recall=0.9,recall-top-k=3", "1, 2, 4 or 8"},
      {"twin:micro,agreement=0.5,draft-damping=1", "one of the two"},
      {"twin:micro,agreement=0.9,exit-recall=0.8", "scripted draft"},
      {"twin:micro,draft-layers=4,agreement=0.7,exit-recall=0.8", "same layers"},
      {"twin:micro,draft-layers=0,agreement=0.7", "without a draft"},
      {"twin:micro,draft-layers=8,agreement=0.7", "all layers"},
      {"twin:micro,draft-damping=-1", "draft-damping"},
      {"twin:micro,exit-damping=inf", "exit-damping"},
      {"twin:micro,logit-scale=0", "logit-scale"},
      {"twin:micro,dtype=f16", "bf16 or f32"},
      {"twin:no/such/config.json", "no/such/config.json"},
  };
  for (const Wrong& wrong : cases) {
    const absl::Status status = ParseTwinOption(wrong.text).status();
    EXPECT_FALSE(status.ok()) << wrong.text;
    EXPECT_TRUE(GetErrorInfo(status).has_value()) << wrong.text;
    EXPECT_NE(status.message().find(wrong.named), absl::string_view::npos)
        << wrong.text << ": " << status;
  }
  EXPECT_FALSE(ParseTwinOption("twin:micro" + std::string(5000, ',')).ok());
}

TEST(TwinOptionTest, ADraftAboveTheExitMayAgreeMore) {
  EXPECT_TRUE(ParseTwinOption("twin:micro,draft-layers=6,agreement=0.9,exit-recall=0.5").ok());
  EXPECT_TRUE(ParseTwinOption("twin:micro,agreement=0.5,exit-recall=0.5").ok());
}

class ShapeFileTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = ::testing::TempDir() + name;
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(ShapeFileTest, TakesAConfigJson) {
  const std::string path = Write("twin_config.json", FindShape("micro")->config);
  const auto request = ParseTwinOption("twin:" + path + ",seed=3");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.draft_layers, 2);
}

TEST_F(ShapeFileTest, TakesATwinJsonWithItsFactors) {
  TwinRecord record;
  record.spec = ParseTwinOption("twin:micro,draft-damping=0.3,exit-damping=0.7,seed=12345678901234567890")->spec;
  record.wish = TwinWish{0.5, 0.8, 4};
  record.measured = TwinMeasured{0.51, 0.79, 0.6, 4, 4096, 2000, 64, 300, 0.98};
  const std::string text = TwinJson(record);
  EXPECT_NE(text.find("\"synthetic\": true"), std::string::npos);
  const auto read = ReadTwinJson("twin.json", text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->spec.seed, record.spec.seed);
  EXPECT_EQ(read->spec.exit_damping, 0.7);
  EXPECT_EQ(read->wish, record.wish);
  EXPECT_EQ(read->measured->num_tokens, 4096);
  EXPECT_EQ(TwinJson(*read), text);
  const auto request = ParseTwinOption("twin:" + Write("twin.json", text));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.draft_damping, 0.3);
  EXPECT_EQ(request->spec.seed, record.spec.seed);
}

TEST_F(ShapeFileTest, RefusesHostileFiles) {
  for (const char* text :
       {"", "{", "[]", "null", "{\"mirrorsd_twin\": 2}", "{\"mirrorsd_twin\": 1}",
        "{\"mirrorsd_twin\": 1, \"draft_layers\": 1e9}",
        "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": -1}",
        "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 8, \"num_hidden_layers\": 2,"
        "\"num_attention_heads\": 2, \"intermediate_size\": 8, \"vocab_size\": 255}",
        "{\"mirrorsd_twin\": 1, \"draft_layers\": 1, \"exit_layer\": 1, \"draft_damping\": 1,"
        "\"exit_damping\": 1, \"seed\": \"1\", \"config\": 3}"}) {
    const absl::Status status = ParseTwinOption("twin:" + Write("hostile.json", text)).status();
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_TRUE(GetErrorInfo(status).has_value()) << text << ": " << status;
  }
}

TEST(ShapesTest, EveryShapeIsRunOrRefusedByItsArchitecture) {
  int num_runnable = 0;
  for (const NamedShape& shape : NamedShapes()) {
    const auto spec = TwinOfShape(shape.name);
    if (spec.ok()) {
      ++num_runnable;
    } else {
      EXPECT_NE(spec.status().message().find("is not supported"), absl::string_view::npos)
          << shape.name << ": " << spec.status();
    }
  }
  EXPECT_GE(num_runnable, 6);
}

}  // namespace
}  // namespace mirrorsd::engine
