#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/rope_frequencies.h"

namespace mirrorsd::engine {
namespace {

using nlohmann::json;

json Base() {
  return json::parse(R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,
    "num_hidden_layers":4,"num_attention_heads":8,"num_key_value_heads":2,"intermediate_size":160,
    "vocab_size":640,"rms_norm_eps":1e-5,"max_position_embeddings":512,"hidden_act":"silu"})");
}

ModelConfig Read(const json& config) {
  auto read = ReadModelConfig("dir/config.json", config.dump());
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *read : ModelConfig{};
}

void ExpectBadText(const std::string& text, const std::string& words, const std::string& limit) {
  const auto read = ReadModelConfig("dir/config.json", text);
  ASSERT_FALSE(read.ok()) << words;
  const auto info = GetErrorInfo(read.status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "BAD_FILE");
  EXPECT_EQ(info->field, "dir/config.json");
  EXPECT_NE(read.status().ToString().find(words), std::string::npos) << read.status();
  EXPECT_NE(info->limit.find(limit), std::string::npos) << info->limit;
}

void ExpectBad(const std::string& field, const json& value, const std::string& limit) {
  json config = Base();
  config[field] = value;
  ExpectBadText(config.dump(), "\"" + field + "\"", limit);
}

TEST(Config, DefaultsAreHuggingFaces) {
  json base = Base();
  base.erase("num_key_value_heads");
  base.erase("rms_norm_eps");
  base.erase("max_position_embeddings");
  const ModelConfig config = Read(base);
  EXPECT_EQ(config.num_kv_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm_eps, 1e-6f);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_FALSE(config.tied_head);
  EXPECT_FALSE(config.block.qkv_bias || config.block.output_bias || config.block.mlp_bias);
  EXPECT_EQ(config.rope, RopeConfig{});
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(Config, EveryFieldOfItsOwn) {
  json base = Base();
  base.update(json::parse(R"({"head_dim":32,"attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true,
    "eos_token_id":[1,2],"torch_dtype":"bfloat16"})"));
  const ModelConfig config = Read(base);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_TRUE(config.block.qkv_bias && config.block.output_bias && config.block.mlp_bias);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(config.eos_token_ids, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(config.stored_dtype, "bfloat16");
  base["eos_token_id"] = 7;
  base["dtype"] = "float16";
  EXPECT_EQ(Read(base).eos_token_ids, (std::vector<TokenId>{7}));
  EXPECT_EQ(Read(base).stored_dtype, "float16");
  base["eos_token_id"] = nullptr;
  EXPECT_TRUE(Read(base).eos_token_ids.empty());
  base["head_dim"] = nullptr;
  EXPECT_EQ(Read(base).head_dim, 8);
}

TEST(Config, BothLayoutsOfRopeSayTheSame) {
  json old_layout = Base(), new_layout = Base();
  old_layout["rope_theta"] = 500000.0;
  old_layout["rope_scaling"] = json::parse(R"({"type":"llama3","factor":8.0,"low_freq_factor":1.0,
    "high_freq_factor":4.0,"original_max_position_embeddings":64})");
  new_layout["rope_parameters"] = json::parse(R"({"rope_type":"llama3","rope_theta":500000.0,"factor":8,
    "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64})");
  EXPECT_EQ(Read(old_layout), Read(new_layout));
  EXPECT_EQ(Read(old_layout).rope.kind, RopeKind::kLlama3);
  old_layout["rope_scaling"] = json::parse(R"({"rope_type":"linear","factor":2.5})");
  EXPECT_EQ(Read(old_layout).rope.kind, RopeKind::kLinear);
  EXPECT_EQ(Read(old_layout).rope.factor, 2.5);
  old_layout["rope_scaling"] = nullptr;
  EXPECT_EQ(Read(old_layout).rope.kind, RopeKind::kDefault);
  EXPECT_EQ(Read(old_layout).rope.theta, 500000.0);
}

TEST(Config, WithoutArchitecturesTheModelTypeCounts) {
  json base = Base();
  base.erase("architectures");
  EXPECT_EQ(Read(base).architecture, "LlamaForCausalLM");
  base["model_type"] = "gpt9";
  ExpectBadText(base.dump(), "gpt9", "LlamaForCausalLM");
  base.erase("model_type");
  ExpectBadText(base.dump(), "neither", "LlamaForCausalLM");
}

TEST(Config, WhatIsNotSupportedSaysWhatIs) {
  json base = Base();
  base["architectures"] = {"Gpt9ForCausalLM"};
  ExpectBadText(base.dump(), "Gpt9ForCausalLM", "supported: LlamaForCausalLM");
  ExpectBad("hidden_act", "gelu", "supported: silu");
  ExpectBad("quantization_config", json::parse(R"({"quant_method":"gptq"})"), "F32, F16 or BF16");
  base = Base();
  for (const char* type : {"yarn", "dynamic", "longrope", "mrope"}) {
    base["rope_scaling"] = {{"rope_type", type}, {"factor", 2.0}};
    ExpectBadText(base.dump(), "rope_scaling.rope_type", "supported: default, linear, llama3");
  }
  base["rope_scaling"] = {{"rope_type", "linear"}};
  ExpectBadText(base.dump(), "rope_scaling.factor", "1 to");
  base["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 2.0}, {"low_freq_factor", 4.0},
      {"high_freq_factor", 4.0}};
  ExpectBadText(base.dump(), "high_freq_factor", "more than");
  ExpectBad("rope_scaling", "linear", "an object");
  ExpectBad("partial_rotary_factor", 0.5, "1");
}

TEST(Config, EveryNumberHasLimits) {
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads",
      "intermediate_size",
                            "vocab_size", "max_position_embeddings", "num_key_value_heads"}) {
    for (const json& value : {json(0), json(-1), json(1e9), json(2147483648u), json(1.5),
        json("8"), json::array(),
                              json(18446744073709551615u), json(INT64_MIN)}) {
      ExpectBad(field, value, "1 to");
    }
  }
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads",
      "intermediate_size", "vocab_size"}) {
    json config = Base();
    config.erase(field);
    ExpectBadText(config.dump(), std::string("\"") + field + "\" is missing", "1 to");
  }
  ExpectBad("num_key_value_heads", 3, "a divisor of num_attention_heads, 8");
  json six_heads = Base();
  six_heads["num_attention_heads"] = 6;
  ExpectBadText(six_heads.dump(), "64 for 6 heads", "a multiple of num_attention_heads");
  ExpectBad("head_dim", 7, "an even number");
  ExpectBad("head_dim", 4096, "2 to 1024");
  ExpectBad("rms_norm_eps", 0.0, "1e-12 to 1");
  ExpectBad("rms_norm_eps", "small", "1e-12 to 1");
  ExpectBad("rope_theta", -1.0, "1 to 1e+12");
  ExpectBad("eos_token_id", 640, "0 to 639");
  ExpectBad("eos_token_id", json::array({1, -2}), "0 to 639");
  ExpectBad("eos_token_id", json(std::vector<int>(2000, 1)), "1024 ids");
  ExpectBad("tie_word_embeddings", 1, "true or false");
}

TEST(Config, TextThatIsNoConfig) {
  ExpectBadText("", "not JSON", "");
  ExpectBadText("{", "not JSON", "");
  ExpectBadText("[1]", "not a JSON object", "");
  ExpectBadText(R"({"a":1,"a":2})", "twice", "once");
  ExpectBadText(std::string(100000, '['), "nested too deep", "depth 16");
  ExpectBadText("{\"a\":\"" + std::string(1 << 20, 'x') + "\"}", "bytes of JSON",
      "at most 1048576 bytes");
  ExpectBadText("{\"rope_theta\":1e999}", "not JSON", "");
}

TEST(RopeFrequencies, PlainAndLinear) {
  RopeConfig rope;
  const auto plain = RopeInverseFrequencies(rope, 8);
  ASSERT_EQ(plain.size(), 4u);
  EXPECT_EQ(plain[0], 1.0f);
  EXPECT_FLOAT_EQ(plain[1], 0.1f);
  EXPECT_FLOAT_EQ(plain[2], 0.01f);
  EXPECT_FLOAT_EQ(plain[3], 0.001f);
  rope.kind = RopeKind::kLinear;
  rope.factor = 4.0;
  EXPECT_FLOAT_EQ(RopeInverseFrequencies(rope, 8)[1], 0.025f);
}

// Worked by hand: original context 64, wave length 2 pi / f; turns = 64 f / 2 pi.
TEST(RopeFrequencies, Llama3StretchesLongWavesOnly) {
  RopeConfig rope;
  rope.kind = RopeKind::kLlama3;
  rope.theta = 10000.0;
  rope.factor = 8.0;
  rope.low_freq_factor = 1.0;
  rope.high_freq_factor = 4.0;
  rope.original_max_positions = 64;
  const auto frequencies = RopeInverseFrequencies(rope, 8);
  EXPECT_EQ(frequencies[0], 1.0f);           // 10.2 turns: as it was
  EXPECT_FLOAT_EQ(frequencies[2], 0.00125f);  // 0.1 turns: stretched by 8
  const double turns = 64 * 0.1 / 6.283185307179586,
      smooth = (turns - 1.0) / 3.0;  // 1.02: in between
  EXPECT_FLOAT_EQ(frequencies[1], static_cast<float>((1 - smooth) * 0.1 / 8 + smooth * 0.1));
}

}  // namespace
}  // namespace mirrorsd::engine
