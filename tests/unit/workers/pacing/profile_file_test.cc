#include "workers/pacing/profile_file.h"

#include <algorithm>
#include <string>

#include "common/error.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace mirrorsd::pacing {
namespace {

using nlohmann::json;

json Base() {
  return json::parse(R"({"format":"mirrorsd-device-profile/1","name":"a-device","description":"one",
    "basis":"published","num_layers":12,"pass_s":1e-4,"embedding_s":1e-5,
    "layer":[[1,1e-3],[8,1.5e-3]],"kv_token_s":1e-9,"head":[[1,2e-3]],"exit_head":[[1,3e-3]],
    "transfer_in":{"base_s":1e-5,"row_s":1e-6},"transfer_out":{"base_s":2e-5},
    "jitter":{"sigma":0.02,"seed":5},
    "sources":{"device":"d","pass_s":"p","embedding_s":"e","layer":"l","kv_token_s":"k","head":"h",
               "exit_head":"x","transfer_in":"i","transfer_out":"o","jitter":"j"}})");
}

void ExpectBadText(const std::string& text, const std::string& words) {
  const auto profile = ParseDeviceProfile("dir/p.json", text);
  ASSERT_FALSE(profile.ok()) << words;
  const auto info = GetErrorInfo(profile.status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "BAD_FILE");
  EXPECT_EQ(info->field, "dir/p.json");
  EXPECT_NE(profile.status().ToString().find(words), std::string::npos) << profile.status();
}

void ExpectBad(const std::string& pointer, const json& value, const std::string& words) {
  json profile = Base();
  profile[json::json_pointer(pointer)] = value;
  ExpectBadText(profile.dump(), words);
}

TEST(ProfileFile, EveryField) {
  const auto profile = ParseDeviceProfile("p.json", Base().dump());
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->name, "a-device");
  EXPECT_EQ(profile->basis, Basis::kPublished);
  EXPECT_EQ(profile->num_layers, 12);
  EXPECT_DOUBLE_EQ(profile->BeginSeconds(2), 1e-4 + 1e-5 + 1.2e-5);
  EXPECT_DOUBLE_EQ(profile->LayersSeconds(8, 100), 12 * (1.5e-3 + 1e-7));
  EXPECT_DOUBLE_EQ(profile->HeadSeconds(3, true), 2e-3);
  EXPECT_DOUBLE_EQ(profile->HeadSeconds(3, false), 3e-3);
  EXPECT_DOUBLE_EQ(profile->transfer_out.Seconds(9), 2e-5);
  EXPECT_DOUBLE_EQ(profile->jitter.sigma, 0.02);
  EXPECT_EQ(profile->jitter.seed, 5u);
  EXPECT_EQ(profile->sources.at("layer"), "l");
}

TEST(ProfileFile, WhatMayBeLeftOut) {
  json profile = Base();
  for (const char* key : {"pass_s", "embedding_s", "kv_token_s", "exit_head", "transfer_in",
                          "transfer_out", "jitter"}) {
    profile.erase(key);
    profile["sources"].erase(key);
  }
  const auto read = ParseDeviceProfile("p.json", profile.dump());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_DOUBLE_EQ(read->HeadSeconds(1, false), 2e-3);  // an exit head costs what the final one does
  EXPECT_DOUBLE_EQ(read->PassSeconds(1, 1, 50), 12e-3 + 2e-3);
  EXPECT_EQ(JitterFactor(read->jitter, 1), 1);
}

TEST(ProfileFile, EveryFieldIsBoundedAndNamed) {
  ExpectBad("/format", "mirrorsd-device-profile/2", "format is another one");
  ExpectBad("/format", 1, "format is not a string");
  ExpectBad("/name", "", "name has 0 bytes");
  ExpectBad("/name", "A b", "name has a character");
  ExpectBad("/name", std::string(65, 'a'), "name has 65 bytes");
  ExpectBad("/description", std::string(5000, 'a'), "description has 5000 bytes");
  ExpectBad("/basis", "guessed", "basis is no known one");
  ExpectBad("/num_layers", 0, "num_layers is out of range");
  ExpectBad("/num_layers", 1025, "num_layers is out of range");
  ExpectBad("/num_layers", 2.5, "num_layers is out of range or not whole");
  ExpectBad("/num_layers", uint64_t{1} << 63, "num_layers is out of range");
  ExpectBad("/pass_s", -1e-9, "pass_s is out of range");
  ExpectBad("/pass_s", 10.5, "pass_s is out of range");
  ExpectBad("/embedding_s", "1", "embedding_s is not a number");
  ExpectBad("/kv_token_s", 1, "kv_token_s is out of range");
  ExpectBad("/transfer_in", 3, "transfer_in is not an object");
  ExpectBad("/transfer_in/base_s", 11, "transfer_in.base_s is out of range");
  ExpectBad("/transfer_in/per_row", 1, "transfer_in.per_row is not known");
  ExpectBad("/transfer_out/base_s", json(), "transfer_out.base_s is not a number");
  ExpectBad("/jitter/sigma", 0.6, "jitter.sigma is out of range");
  ExpectBad("/jitter/seed", -1, "jitter.seed is out of range");
  ExpectBad("/jitter/kind", "normal", "jitter.kind is not known");
  ExpectBad("/speed", 1, "speed is not known");
}

TEST(ProfileFile, TablesRiseInRowsAndNeverFallInTime) {
  ExpectBad("/layer", json::array(), "layer is not a list");
  ExpectBad("/layer", 3, "layer is not a list");
  ExpectBad("/layer", json::parse("[[1,1e-3,2]]"), "layer[0] is not a pair");
  ExpectBad("/layer", json::parse("[[2,1e-3]]"), "layer[0][0] is not 1 row");
  ExpectBad("/layer", json::parse("[[1,1e-3],[1,2e-3]]"), "layer[1][0] is not above");
  ExpectBad("/layer", json::parse("[[1,1e-3],[4,9e-4]]"), "layer[1][1] is below");
  ExpectBad("/layer", json::parse("[[1,1e-3],[65537,1]]"), "layer[1][0] is out of range");
  ExpectBad("/layer", json::parse("[[1,-1]]"), "layer[0][1] is out of range");
  ExpectBad("/layer", json::parse("[[0,1]]"), "layer[0][0] is out of range");
  ExpectBad("/head", json::parse("[[1,\"x\"]]"), "head[0][1] is not a number");
  ExpectBad("/exit_head", json::parse("[[1,11]]"), "exit_head[0][1] is out of range");
  json many = json::array();
  for (int i = 1; i <= 65; ++i) many.push_back({i, 1e-3});
  ExpectBad("/layer", many, "layer is not a list");
}

TEST(ProfileFile, EveryTimeSaysWhereItComesFrom) {
  json profile = Base();
  profile["sources"].erase("layer");
  ExpectBadText(profile.dump(), "sources.layer is missing");
  ExpectBad("/sources/layer", "", "sources.layer has 0 bytes");
  ExpectBad("/sources/weather", "sunny", "sources.weather explains no field");
  ExpectBad("/sources", 1, "sources is not an object");
  profile = Base();
  profile.erase("kv_token_s");
  ExpectBadText(profile.dump(), "sources.kv_token_s explains no field");
}

TEST(ProfileFile, NoProfileAtAll) {
  ExpectBadText("", "is not JSON");
  ExpectBadText("[1]", "is not an object");
  ExpectBadText("{}", "format is missing");
  ExpectBadText(R"({"name":"a","name":"b"})", "is there twice");
  ExpectBadText(std::string(300 << 10, ' '), "bytes of JSON");
  ExpectBadText(std::string(100, '['), "nested too deep");
  for (const char* key : {"name", "description", "basis", "num_layers", "layer", "head", "sources"}) {
    json profile = Base();
    profile.erase(key);
    if (profile.contains("sources")) profile["sources"].erase(key);
    ExpectBadText(profile.dump(), std::string(key) + " is missing");
  }
}

TEST(ProfileFile, TheBuiltInOnesByName) {
  const auto names = BuiltinProfileNames();
  EXPECT_GE(names.size(), 7u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    const auto profile = LoadDeviceProfile(name);
    ASSERT_TRUE(profile.ok()) << profile.status();
    EXPECT_EQ(profile->name, name);
    // As a file it is the same.
    const auto file = LoadDeviceProfile("profiles/" + name + ".json");
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->PassSeconds(7, 3, 100), profile->PassSeconds(7, 3, 100));
    const double pass = profile->PassSeconds(1, 1, 1);
    EXPECT_GT(pass, 5e-4) << name;
    EXPECT_LT(pass, 5e-2) << name;
    EXPECT_GE(profile->PassSeconds(64, 64, 64), pass);
  }
}

TEST(ProfileFile, UnknownNamesAndFiles) {
  const auto name = LoadDeviceProfile("abacus");
  ASSERT_FALSE(name.ok());
  EXPECT_EQ(GetErrorInfo(name.status())->reason, "MISSING_FILE");
  EXPECT_NE(name.status().ToString().find("npu-qwen3-0.6b"), std::string::npos);
  EXPECT_EQ(GetErrorInfo(LoadDeviceProfile("nowhere/x.json").status())->reason, "MISSING_FILE");
  EXPECT_EQ(GetErrorInfo(LoadDeviceProfile("tests/").status())->reason, "BAD_FILE");
}

}  // namespace
}  // namespace mirrorsd::pacing
