#include "workers/engine/model/loader/safetensors.h"

#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"

namespace mirrorsd::engine {
namespace {

std::string File(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file + header + std::string(data_bytes, '\x01');
}

absl::StatusOr<std::vector<StoredTensor>> Parse(const std::string& file) {
  return ParseSafetensors("dir/model.safetensors",
                          {reinterpret_cast<const uint8_t*>(file.data()), file.size()});
}

// Refused as BAD_FILE, naming the file, with `words` in the message and `limit` in the limit.
void ExpectBad(const std::string& file, const std::string& words, const std::string& limit) {
  const auto parsed = Parse(file);
  ASSERT_FALSE(parsed.ok()) << words;
  const auto info = GetErrorInfo(parsed.status());
  ASSERT_TRUE(info.has_value()) << parsed.status();
  EXPECT_EQ(info->reason, "BAD_FILE");
  EXPECT_EQ(info->field, "dir/model.safetensors");
  EXPECT_NE(parsed.status().ToString().find(words), std::string::npos) << parsed.status();
  EXPECT_NE(info->limit.find(limit), std::string::npos) << info->limit;
}

constexpr char kA[] = R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})";

TEST(Safetensors, ReadsNamesTypesShapesAndBytes) {
  const std::string file = File(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},)" +
          std::string(kA) + R"(,"none":{"dtype":"I64","shape":[0,5],"data_offsets":[22,22]},)" +
          R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[22,23]}})",
      23);
  const auto tensors = Parse(file);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 4u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[0].type, StoredType::kF32);
  EXPECT_EQ((*tensors)[0].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ((*tensors)[1].name, "b");
  EXPECT_EQ((*tensors)[1].bytes.size(), 6u);
  EXPECT_EQ((*tensors)[1].bytes.data() - (*tensors)[0].bytes.data(), 16);
  EXPECT_EQ((*tensors)[2].bytes.size(), 0u);
  EXPECT_EQ((*tensors)[3].shape.size(), 0u);
}

TEST(Safetensors, WhatItWritesItReads) {
  const std::vector<uint8_t> f32(24, 7), bf16(10, 9);
  std::vector<StoredTensor> tensors(2);
  tensors[0].name = "z \"quoted\"\n";
  tensors[0].shape = {2, 3};
  tensors[1].name = "a";
  tensors[1].type = StoredType::kBf16;
  tensors[1].shape = {5};
  const std::string file = MakeSafetensorsHeader(tensors) + std::string(24,
      '\x07') + std::string(10, '\x09');
  const auto read = Parse(file);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[0].name, "a");
  EXPECT_EQ((*read)[0].bytes, absl::MakeConstSpan(bf16));
  EXPECT_EQ((*read)[1].name, tensors[0].name);
  EXPECT_EQ((*read)[1].bytes, absl::MakeConstSpan(f32));
  EXPECT_EQ(((*read)[1].bytes.data() - reinterpret_cast<const uint8_t*>(file.data())) % 8, 0);
}

TEST(Safetensors, HeaderLengths) {
  ExpectBad("", "too few", "at least 8 bytes");
  ExpectBad("1234567", "too few", "at least 8 bytes");
  ExpectBad(std::string(8, '\xff'), "18446744073709551615", "at most 100000000 bytes");
  ExpectBad(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8), "100000001", "at most 100000000 bytes");
  ExpectBad(std::string("\x09\0\0\0\0\0\0\0{}", 10), "cut off", "at least 17 bytes");
  ExpectBad(File("", 0), "not JSON", "");
}

TEST(Safetensors, HeadersThatAreNoTable) {
  ExpectBad(File("not json", 0), "is not JSON", "");
  ExpectBad(File("{\"a\":", 0), "is not JSON", "");
  ExpectBad(File("{\"a\xff\":1}", 0), "is not JSON", "");
  ExpectBad(File("[]", 0), "not an object", "");
  ExpectBad(File("{} {}", 0), "is not JSON", "");
  ExpectBad(File("{\"__metadata__\":3}", 0), "__metadata__", "");
  ExpectBad(File(R"({"a":[[[[[1]]]]]})", 0), "nested too deep", "depth 4");
  ExpectBad(File("{" + std::string(kA) + "," + kA + "}", 16), "twice", "once");
  ExpectBad(File(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
      "twice", "once");
}

TEST(Safetensors, EntriesThatAreWrong) {
  const auto entry = [](const std::string& text,
      size_t bytes = 16) { return File("{\"a\":" + text + "}", bytes); };
  ExpectBad(entry("3"), "tensor \"a\"", "these three");
  ExpectBad(entry(R"({"dtype":"F32","shape":[2,2]})"), "tensor \"a\"", "these three");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1})"), "tensor \"a\"",
      "these three");
  ExpectBad(entry(R"({"dtype":"F31","shape":[4],"data_offsets":[0,16]})"),
      "unknown dtype \"F31\"", "dtype");
  ExpectBad(entry(R"({"dtype":7,"shape":[4],"data_offsets":[0,16]})"), "unknown dtype", "dtype");
  ExpectBad(entry(R"({"dtype":"F32","shape":4,"data_offsets":[0,16]})"), "no usable shape",
      "at most 8");
  ExpectBad(entry(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16]})"),
      "no usable shape", "at most 8");
  ExpectBad(entry(R"({"dtype":"F32","shape":[-4],"data_offsets":[0,16]})"), "out of range", "0 to");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4.0],"data_offsets":[0,16]})"), "out of range",
      "0 to");
  ExpectBad(entry(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,16]})"),
      "out of range", "0 to");
  // 2^40 * 2^40 elements would overflow.
  ExpectBad(entry(R"({"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,16]})"),
            "too many elements", "at most");
  ExpectBad(entry(R"({"dtype":"F32","shape":[5],"data_offsets":[0,16]})"), "holds 16 bytes",
      "20 bytes");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,17]})"), "out of range",
      "16 bytes of data");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[16,0]})"), "out of range",
      "in order");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[-16,0]})"), "out of range", "0 to");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,99999999999999999999]})"),
      "out of range", "0 to");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0]})"), "out of range", "0 to");
  ExpectBad(entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})", 15), "out of range",
      "15 bytes");
}

TEST(Safetensors, DataThatIsNotCoveredOnce) {
  const auto two = [](const std::string& b, size_t bytes) {
    return File("{" + std::string(kA) + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":)" + b + "}}", bytes);
  };
  EXPECT_TRUE(Parse(two("[16,24]", 24)).ok());
  ExpectBad(two("[12,20]", 24), "overlaps", "one after another");
  ExpectBad(two("[8,16]", 16), "overlaps", "one after another");
  ExpectBad(two("[20,28]", 28), "gap", "one after another");
  ExpectBad(two("[16,24]", 25), "cover 24", "24 bytes");
  ExpectBad(File("{}", 3), "cover 0", "0 bytes");
  EXPECT_TRUE(Parse(File("{}", 0)).ok());
}

TEST(SafetensorsIndex, NamesPlainFilesInTheSameFolder) {
  const auto parse = [](const std::string& text) { return ParseSafetensorsIndex("dir/index.json",
      text); };
  const auto good = parse(R"({"metadata":{"total_size":1},"weight_map":{"b":"2.safetensors","a":"1.safetensors"}})");
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ((*good)[0], (std::pair<std::string, std::string>("a", "1.safetensors")));
  for (const char* shard : {"\"../x\"", "\"/etc/passwd\"", "\"a/b\"", "\"..\"", "\".\"", "\"\"",
      "3", "null",
                            "\"a\\\\b\"", "\"a\\u0000b\""}) {
    const auto bad = parse("{\"weight_map\":{\"t\":" + std::string(shard) + "}}");
    ASSERT_FALSE(bad.ok()) << shard;
    EXPECT_EQ(GetErrorInfo(bad.status())->limit, "the name of a file in the same folder") << shard;
    EXPECT_NE(bad.status().ToString().find("tensor \"t\""), std::string::npos) << bad.status();
  }
  EXPECT_FALSE(parse("{}").ok());
  EXPECT_FALSE(parse("{\"weight_map\":[]}").ok());
  EXPECT_FALSE(parse("nonsense").ok());
}

}  // namespace
}  // namespace mirrorsd::engine
