// Purpose: Linear and Embedding of every backend and weight type against a plain sum in double, and the
// bits of a row whatever stands beside it.

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/device.h"

namespace mirrorsd::engine::conformance {
namespace {

class LinearConformance : public ::testing::TestWithParam<OpCase> {};

struct Shape {
  int64_t rows, inputs, outputs;
};

// Any order of n float32 additions of products errs by at most n roundings of the sum of magnitudes.
void ExpectNear(double got, double want, double magnitude, int64_t inputs) {
  EXPECT_LE(std::abs(got - want), magnitude * static_cast<double>(inputs + 2) * kRoundoff)
      << "got " << got << " want " << want;
}

TEST_P(LinearConformance, EqualsThePlainSum) {
  Device device(GetParam().backend);
  Numbers numbers(1);
  // Widths around the vector's and the blocks', one and many rows, fewer outputs than a tile.
  for (const Shape& shape : {Shape{1, 64, 48}, Shape{3, 1, 1}, Shape{2, 7, 5}, Shape{5, 67, 13},
                             Shape{9, 515, 31}, Shape{70, 130, 25}, Shape{4, 1030, 7},
                             Shape{65, 1100, 12}, Shape{1, 2048, 3}, Shape{0, 16, 8}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << "x" << shape.inputs << "x" << shape.outputs);
    Stored stored(shape.outputs, shape.inputs, GetParam().dtype, numbers);
    const std::vector<float> x = numbers.Vector(shape.rows * shape.inputs);
    const std::vector<float> bias = numbers.Vector(shape.outputs);
    const auto weight = device.Load({stored.view()});
    const Buffer device_bias = device.UploadVector(bias);
    const DeviceMatrix in = device.Upload(x, shape.rows, shape.inputs);
    DeviceMatrix out = device.Empty(shape.rows, shape.outputs);
    for (const bool with_bias : {false, true}) {
      device->Linear(in.view, *weight, with_bias ? &device_bias : nullptr, out.view);
      const std::vector<float> got = device.Download(out.view);
      for (int64_t t = 0; t < shape.rows; ++t) {
        for (int64_t n = 0; n < shape.outputs; ++n) {
          double want = with_bias ? bias[n] : 0.0;
          double magnitude = std::abs(want);
          for (int64_t k = 0; k < shape.inputs; ++k) {
            const double term = x[t * shape.inputs + k] * stored.At(n, k);
            want += term;
            magnitude += std::abs(term);
          }
          ExpectNear(got[t * shape.outputs + n], want, magnitude, shape.inputs);
        }
      }
    }
  }
}

TEST_P(LinearConformance, WeightsAreWidenedExactly) {
  // With a one in x the output is the weight itself: all finite values of 16 bits, or many floats.
  Device device(GetParam().backend);
  const DType dtype = GetParam().dtype;
  constexpr int64_t kOutputs = 65536;
  std::vector<uint8_t> bytes(kOutputs * DTypeBytes(dtype));
  std::vector<float> want;
  for (int64_t i = 0; i < kOutputs; ++i) {
    uint32_t bits = static_cast<uint32_t>(i);
    if (dtype == DType::kF32) bits = bits * 65521u;
    std::memcpy(bytes.data() + i * DTypeBytes(dtype), &bits, DTypeBytes(dtype));
    float value = LoadF32(bytes.data(), dtype, i);
    if (!std::isfinite(value)) {
      value = 1.0f;
      StoreF32(value, dtype, bytes.data(), i);
    }
    want.push_back(value == 0.0f ? 0.0f : value);  // 0 + -0 = 0
  }
  const auto weight = device.Load({HostMatrix::Of(bytes.data(), dtype, kOutputs, 1)});
  const DeviceMatrix one = device.Upload({1.0f}, 1, 1);
  DeviceMatrix out = device.Empty(1, kOutputs);
  device->Linear(one.view, *weight, nullptr, out.view);
  EXPECT_TRUE(SameBits(device.Download(out.view), want));
}

TEST_P(LinearConformance, BitsDoNotDependOnTheOtherRows) {
  Device device(GetParam().backend);
  Numbers numbers(2);
  for (const Shape& shape : {Shape{64, 96, 50}, Shape{64, 1037, 29}, Shape{130, 2070, 14}}) {
    Stored stored(shape.outputs, shape.inputs, GetParam().dtype, numbers);
    const auto weight = device.Load({stored.view()});
    const std::vector<float> x = numbers.Vector(shape.rows * shape.inputs);
    const DeviceMatrix in = device.Upload(x, shape.rows, shape.inputs);
    DeviceMatrix out = device.Empty(shape.rows, shape.outputs);
    device->Linear(in.view, *weight, nullptr, out.view);
    const std::vector<float> all = device.Download(out.view);
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13, 16, 47, 64}) {
      for (int64_t begin = 0; begin + rows <= shape.rows; begin += rows == 1 ? 1 : 11) {
        DeviceMatrix part = device.Empty(rows, shape.outputs, 5);
        device->Linear(in.view.Rows(begin, begin + rows), *weight, nullptr, part.view);
        ASSERT_TRUE(SameBits(device.Download(part.view),
                             Slice(all, begin * shape.outputs, (begin + rows) * shape.outputs)))
            << rows << " rows from " << begin;
      }
    }
  }
}

TEST_P(LinearConformance, BitsDoNotDependOnThreadsOrStacking) {
  Numbers numbers(3);
  constexpr int64_t kRows = 5, kInputs = 333, kOutputs = 350;
  Stored first(130, kInputs, GetParam().dtype, numbers);
  Stored second(220, kInputs, GetParam().dtype, numbers, /*misalign_bytes=*/1);
  const std::vector<float> x = numbers.Vector(kRows * kInputs);
  std::vector<float> want;
  for (const int32_t threads : {1, 2, 3, 4}) {
    Device device(GetParam().backend, threads);
    const DeviceMatrix in = device.Upload(x, kRows, kInputs);
    const auto stacked = device.Load({first.view(), second.view()});
    EXPECT_EQ(stacked->num_outputs(), kOutputs);
    EXPECT_EQ(stacked->num_inputs(), kInputs);
    EXPECT_EQ(stacked->dtype(), GetParam().dtype);
    DeviceMatrix out = device.Empty(kRows, kOutputs);
    device->Linear(in.view, *stacked, nullptr, out.view);
    const std::vector<float> got = device.Download(out.view);
    if (want.empty()) {
      // Part by part, into column ranges of one matrix.
      DeviceMatrix apart = device.Empty(kRows, kOutputs);
      device->Linear(in.view, *device.Load({first.view()}), nullptr, apart.view.Cols(0, 130));
      device->Linear(in.view, *device.Load({second.view()}), nullptr, apart.view.Cols(130, kOutputs));
      want = device.Download(apart.view);
    }
    EXPECT_TRUE(SameBits(got, want)) << threads << " threads";
  }
}

TEST_P(LinearConformance, ColumnRangesOfAWeight) {
  // One rank's share of a row-parallel weight: its rows are not side by side.
  Device device(GetParam().backend);
  Numbers numbers(4);
  Stored stored(9, 40, GetParam().dtype, numbers);
  const auto weight = device.Load({stored.view().Cols(8, 31)});
  const std::vector<float> x = numbers.Vector(23);
  const DeviceMatrix in = device.Upload(x, 1, 23);
  DeviceMatrix out = device.Empty(1, 9);
  device->Linear(in.view, *weight, nullptr, out.view);
  const std::vector<float> got = device.Download(out.view);
  for (int64_t n = 0; n < 9; ++n) {
    double want = 0, magnitude = 0;
    for (int64_t k = 0; k < 23; ++k) {
      want += x[k] * stored.At(n, 8 + k);
      magnitude += std::abs(x[k] * stored.At(n, 8 + k));
    }
    ExpectNear(got[n], want, magnitude, 23);
  }
}

TEST_P(LinearConformance, NanStaysInItsRow) {
  Device device(GetParam().backend);
  Numbers numbers(5);
  Stored stored(20, 37, GetParam().dtype, numbers);
  const auto weight = device.Load({stored.view()});
  std::vector<float> x = numbers.Vector(6 * 37);
  x[3 * 37 + 36] = std::numeric_limits<float>::quiet_NaN();
  const DeviceMatrix in = device.Upload(x, 6, 37);
  DeviceMatrix out = device.Empty(6, 20);
  device->Linear(in.view, *weight, nullptr, out.view);
  const std::vector<float> got = device.Download(out.view);
  for (int64_t i = 0; i < 6 * 20; ++i) EXPECT_EQ(std::isnan(got[i]), i / 20 == 3) << i;
}

TEST_P(LinearConformance, EmbeddingCopiesAndAddsRows) {
  Device device(GetParam().backend);
  Numbers numbers(6);
  Stored stored(11, 35, GetParam().dtype, numbers);
  const auto table = device.Load({stored.view()});
  const std::vector<int32_t> rows = {10, 0, 3, 3, 7};
  DeviceMatrix out = device.Empty(5, 35);
  device->Embedding(*table, rows, /*accumulate=*/false, out.view);
  std::vector<float> want;
  for (const int32_t row : rows) {
    for (int64_t i = 0; i < 35; ++i) want.push_back(stored.view().At(row, i));
  }
  EXPECT_TRUE(SameBits(device.Download(out.view), want));
  const std::vector<int32_t> others = {1, 2, 3, 4, 5};
  device->Embedding(*table, others, /*accumulate=*/true, out.view);
  for (size_t i = 0; i < want.size(); ++i) want[i] += stored.view().At(others[i / 35], i % 35);
  EXPECT_TRUE(SameBits(device.Download(out.view), want));
  device->Embedding(*table, {}, false, out.view.Rows(0, 0));
}

TEST_P(LinearConformance, LoadVectorWidensAndConcatenates) {
  Device device(GetParam().backend);
  Numbers numbers(7);
  Stored first(1, 9, GetParam().dtype, numbers);
  Stored second(1, 4, GetParam().dtype, numbers, /*misalign_bytes=*/1);
  absl::StatusOr<Buffer> loaded = device->LoadVector({first.view(), second.view()});
  ASSERT_TRUE(loaded.ok());
  ASSERT_EQ(loaded->size_f32(), 13);
  std::vector<float> want;
  for (int64_t i = 0; i < 9; ++i) want.push_back(first.view().At(0, i));
  for (int64_t i = 0; i < 4; ++i) want.push_back(second.view().At(0, i));
  EXPECT_TRUE(SameBits(device.Download(loaded->AsMatrix(1, 13)), want));
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearConformance, ::testing::ValuesIn(AllOpCases()),
                         [](const auto& info) {
                           return info.param.backend.name + "_" + DTypeName(info.param.dtype);
                         });

}  // namespace
}  // namespace mirrorsd::engine::conformance
