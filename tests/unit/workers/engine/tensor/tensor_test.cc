// Purpose: element types widen exactly and narrow to nearest, views address what they say, memory is
// aligned and zero, and only regular files within the limit are mapped.

#include "workers/engine/tensor/tensor.h"

#include <sys/stat.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "workers/engine/tensor/aligned_memory.h"
#include "workers/engine/tensor/clock.h"
#include "workers/engine/tensor/dtype.h"
#include "workers/engine/tensor/mapped_file.h"

namespace mirrorsd::engine {
namespace {

using ::testing::HasSubstr;

TEST(DType, HalvesWidenExactly) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const int32_t exponent = (half >> 10) & 31;
    const int32_t fraction = half & 1023;
    const float wide = F32FromF16(half);
    EXPECT_EQ(std::signbit(wide), (half >> 15) != 0);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(wide), fraction != 0);
      EXPECT_EQ(std::isinf(wide), fraction == 0);
      continue;
    }
    const double want = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(std::abs(wide), want) << bits;
    ASSERT_EQ(F16FromF32(wide), half) << bits;
    const float brain = F32FromBF16(half);
    EXPECT_EQ(BitsFromF32(brain), bits << 16);
    if (std::isnan(brain)) continue;
    ASSERT_EQ(BF16FromF32(brain), half);
  }
}

TEST(DType, NarrowingRoundsToNearestEven) {
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const float low = F32FromF16(half);
    const float high = F32FromF16(half + 1);
    const float middle = (low + high) / 2;
    ASSERT_EQ(F16FromF32(middle), half % 2 == 0 ? half : half + 1) << half;
    ASSERT_EQ(F16FromF32(std::nextafter(middle, low)), half) << half;
    ASSERT_EQ(F16FromF32(std::nextafter(middle, high)), half + 1) << half;
  }
  EXPECT_EQ(F16FromF32(65520.0f), 0x7c00);
  EXPECT_EQ(F16FromF32(65519.9f), 0x7bff);
  EXPECT_EQ(F16FromF32(-1e-9f), 0x8000);
  EXPECT_TRUE(std::isnan(F32FromF16(F16FromF32(std::nanf("")))));
  EXPECT_EQ(BF16FromF32(F32FromBits(0x3f808000)), 0x3f80);  // tie to even
  EXPECT_EQ(BF16FromF32(F32FromBits(0x3f818000)), 0x3f82);
  EXPECT_EQ(BF16FromF32(F32FromBits(0x3f808001)), 0x3f81);
  EXPECT_TRUE(std::isnan(F32FromBF16(BF16FromF32(F32FromBits(0x7f800001)))));
}

TEST(HostMatrix, SlicesOfUnalignedBytes) {
  std::vector<uint8_t> bytes(3 * 4 * 2 + 1);
  for (int i = 0; i < 12; ++i) StoreF32(static_cast<float>(i), DType::kF16, bytes.data() + 1, i);
  const HostMatrix all = HostMatrix::Of(bytes.data() + 1, DType::kF16, 3, 4);
  EXPECT_EQ(all.At(2, 3), 11.0f);
  EXPECT_EQ(all.Rows(1, 3).At(0, 0), 4.0f);
  const HostMatrix corner = all.Rows(1, 3).Cols(2, 4);
  EXPECT_EQ(corner.At(1, 1), 11.0f);
  EXPECT_EQ(corner.At(0, 0), 6.0f);
  EXPECT_EQ(corner.size_bytes(), 8);
}

TEST(AlignedMemory, IsAlignedAndZero) {
  for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{64}, int64_t{100000}, int64_t{5} << 20}) {
    const std::shared_ptr<void> memory = AllocateAligned(size);
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.get()) % kCacheLineBytes, 0u);
    const auto* bytes = static_cast<const unsigned char*>(memory.get());
    for (int64_t i = 0; i < size; i += 61) ASSERT_EQ(bytes[i], 0);
  }
  EXPECT_EQ(AllocateAligned(-1), nullptr);
  EXPECT_EQ(AllocateAligned(std::numeric_limits<int64_t>::max()), nullptr);
  EXPECT_EQ(AllocateAligned(int64_t{1} << 60), nullptr);
}

TEST(Clock, DoesNotGoBack) {
  const int64_t first = MonotonicClock().NowNs();
  EXPECT_GE(MonotonicClock().NowNs(), first);
  EXPECT_GT(first, 0);
}

class MappedFileTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& contents) {
    const std::string path = ::testing::TempDir() + "/mapped_file_" + name;
    std::ofstream(path, std::ios::binary) << contents;
    return path;
  }
};

TEST_F(MappedFileTest, MapsContents) {
  const std::string path = Write("contents", "weights");
  absl::StatusOr<MappedFile> file = MappedFile::Open(path, 7);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(std::string(file->bytes().begin(), file->bytes().end()), "weights");
  EXPECT_EQ(file->path(), path);
  MappedFile moved = *std::move(file);
  moved.WillNeed(0, 7);
  moved.DontNeed(3, 1000);
  moved.DontNeed(-5, -7);
  EXPECT_EQ(moved.bytes()[0], 'w');
  absl::StatusOr<MappedFile> other = MappedFile::Open(Write("other", "x"), 7);
  ASSERT_TRUE(other.ok());
  moved = *std::move(other);
  EXPECT_EQ(moved.bytes().size(), 1u);
}

TEST_F(MappedFileTest, EmptyFilesHaveNoBytes) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(Write("empty", ""), 7);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(MappedFileTest, RefusesWhatIsNotARegularFileWithinTheLimit) {
  const absl::Status missing = MappedFile::Open("/does/not/exist", 7).status();
  EXPECT_EQ(GetErrorInfo(missing)->reason, "MISSING_FILE");
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/does/not/exist"));

  const absl::Status large = MappedFile::Open(Write("large", "12345678"), 7).status();
  EXPECT_EQ(GetErrorInfo(large)->reason, "BAD_FILE");
  EXPECT_THAT(GetErrorInfo(large)->limit, HasSubstr("7"));

  EXPECT_EQ(GetErrorInfo(MappedFile::Open(::testing::TempDir(), 7).status())->reason, "BAD_FILE");
  EXPECT_EQ(GetErrorInfo(MappedFile::Open("/dev/zero", 7).status())->reason, "BAD_FILE");

  const std::string pipe = ::testing::TempDir() + "/mapped_file_pipe";
  std::remove(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(GetErrorInfo(MappedFile::Open(pipe, 7).status())->reason, "BAD_FILE");  // and does not wait
}

}  // namespace
}  // namespace mirrorsd::engine
