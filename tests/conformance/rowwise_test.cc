// Purpose: norms, activations, RoPE and the ops that move rows, of every backend, against plain
// computations in double with derived bounds; rows and threads must not show in the bits.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/device.h"

namespace mirrorsd::engine::conformance {
namespace {

class RowwiseConformance : public ::testing::TestWithParam<BackendCase> {};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Runs `op` over all rows at once, then over parts of them and with other thread counts.
// Shapes: x[rows, cols]; op(device, in, out) with in and out of equal rows
void ExpectRowsApart(const BackendCase& backend_case, int64_t cols, int64_t out_cols,
                     const std::function<void(Device&, Matrix, Matrix)>& op) {
  constexpr int64_t kRows = 64;
  Numbers numbers(77);
  const std::vector<float> x = numbers.Vector(kRows * cols);
  std::vector<float> want;
  for (const int32_t threads : {1, 3}) {
    Device device(backend_case, threads);
    const DeviceMatrix in = device.Upload(x, kRows, cols);
    DeviceMatrix out = device.Empty(kRows, out_cols);
    op(device, in.view, out.view);
    const std::vector<float> all = device.Download(out.view);
    if (want.empty()) want = all;
    EXPECT_TRUE(SameBits(all, want)) << threads << " threads";
    op(device, in.view.Rows(5, 5), out.view.Rows(5, 5));
    for (const int64_t rows : {1, 2, 7, 16}) {
      for (int64_t begin = 0; begin + rows <= kRows; begin += 9) {
        DeviceMatrix copy = device.Upload(Slice(x, begin * cols, (begin + rows) * cols), rows, cols, 1);
        DeviceMatrix part = device.Empty(rows, out_cols, 2);
        op(device, copy.view, part.view);
        ASSERT_TRUE(SameBits(device.Download(part.view),
                             Slice(want, begin * out_cols, (begin + rows) * out_cols)))
            << rows << " rows from " << begin;
      }
    }
  }
}

TEST_P(RowwiseConformance, RmsNorm) {
  Device device(GetParam());
  Numbers numbers(1);
  constexpr float kEps = 1e-5f;
  // Runs of `size` within rows of `cols`.
  for (const auto& [cols, size] : {std::pair{1, 1}, {7, 7}, {33, 33}, {896, 896}, {130, 130}, {96, 32}, {60, 20}}) {
    for (const bool with_residual : {false, true}) {
      constexpr int64_t kRows = 3;
      std::vector<float> x = numbers.Vector(kRows * cols);
      std::vector<float> residual = numbers.Vector(kRows * cols);
      const std::vector<float> weight = numbers.Vector(size);
      DeviceMatrix in = device.Upload(x, kRows, cols);
      DeviceMatrix sum = device.Upload(residual, kRows, cols, 1);
      DeviceMatrix out = device.Empty(kRows, cols);
      device->RmsNorm(in.view, device.UploadVector(weight), kEps, with_residual ? &sum.view : nullptr, out.view);
      if (with_residual) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = residual[i] + x[i];
        EXPECT_TRUE(SameBits(device.Download(sum.view), x));
      }
      const std::vector<float> got = device.Download(out.view);
      for (int64_t begin = 0; begin < kRows * cols; begin += size) {
        double squares = 0;
        for (int64_t i = 0; i < size; ++i) squares += double{x[begin + i]} * x[begin + i];
        const double inverse = 1.0 / std::sqrt(squares / size + double{kEps});
        for (int64_t i = 0; i < size; ++i) {
          const double want = x[begin + i] * inverse * weight[i];
          // The sum's relative error is halved by the root; six more roundings follow.
          const double bound = std::abs(want) * (0.5 * (size + 2) + 6) * kRoundoff;
          EXPECT_LE(std::abs(got[begin + i] - want), bound) << cols << " " << i;
        }
      }
    }
  }
  ExpectRowsApart(GetParam(), 50, 50, [&](Device& other, Matrix in, Matrix out) {
    other->RmsNorm(in, other.UploadVector(std::vector<float>(50, 0.7f)), kEps, nullptr, out);
  });
}

TEST_P(RowwiseConformance, LayerNorm) {
  Device device(GetParam());
  Numbers numbers(2);
  constexpr float kEps = 1e-5f;
  for (const int64_t cols : {5, 64, 67, 770}) {
    for (const bool with_residual : {false, true}) {
      constexpr int64_t kRows = 3;
      std::vector<float> x = numbers.Vector(kRows * cols);
      for (float& value : x) value += 3.0f;
      std::vector<float> residual = numbers.Vector(kRows * cols);
      const std::vector<float> weight = numbers.Vector(cols);
      const std::vector<float> bias = numbers.Vector(cols);
      DeviceMatrix in = device.Upload(x, kRows, cols);
      DeviceMatrix sum = device.Upload(residual, kRows, cols);
      DeviceMatrix out = device.Empty(kRows, cols);
      device->LayerNorm(in.view, device.UploadVector(weight), device.UploadVector(bias), kEps,
                        with_residual ? &sum.view : nullptr, out.view);
      if (with_residual) {
        for (size_t i = 0; i < x.size(); ++i) x[i] = residual[i] + x[i];
        EXPECT_TRUE(SameBits(device.Download(sum.view), x));
      }
      const std::vector<float> got = device.Download(out.view);
      for (int64_t t = 0; t < kRows; ++t) {
        const float* row = x.data() + t * cols;
        const double n = static_cast<double>(cols);
        double mean = 0, magnitude = 0, variance = 0;
        for (int64_t i = 0; i < cols; ++i) {
          mean += row[i] / n;
          magnitude += std::abs(row[i]) / n;
        }
        for (int64_t i = 0; i < cols; ++i) variance += (row[i] - mean) * (row[i] - mean) / n;
        const double inverse = 1.0 / std::sqrt(variance + double{kEps});
        const double mean_error = (n + 2) * kRoundoff * magnitude;
        const double scale_error =
            0.5 * ((n + 6) * kRoundoff + mean_error * mean_error / variance) + 4 * kRoundoff;
        for (int64_t i = 0; i < cols; ++i) {
          const double centered = row[i] - mean;
          const double want = centered * inverse * weight[i] + bias[i];
          const double bound = std::abs(weight[i]) * inverse *
                                   (mean_error + std::abs(centered) * (scale_error + 3 * kRoundoff)) +
                               2 * kRoundoff * (std::abs(want) + std::abs(bias[i]));
          EXPECT_LE(std::abs(got[t * cols + i] - want), bound) << cols << " " << i;
        }
      }
    }
  }
  ExpectRowsApart(GetParam(), 50, 50, [&](Device& other, Matrix in, Matrix out) {
    const Buffer weight = other.UploadVector(std::vector<float>(50, 0.7f));
    other->LayerNorm(in, weight, weight, kEps, nullptr, out);
  });
}

TEST_P(RowwiseConformance, NanStaysInItsRowOfANorm) {
  Device device(GetParam());
  Numbers numbers(3);
  std::vector<float> x = numbers.Vector(4 * 19);
  x[2 * 19 + 18] = kNan;
  const DeviceMatrix in = device.Upload(x, 4, 19);
  DeviceMatrix out = device.Empty(4, 19);
  const Buffer ones = device.UploadVector(std::vector<float>(19, 1.0f));
  device->RmsNorm(in.view, ones, 1e-6f, nullptr, out.view);
  std::vector<float> got = device.Download(out.view);
  for (int64_t i = 0; i < 4 * 19; ++i) EXPECT_EQ(std::isnan(got[i]), i / 19 == 2) << i;
  device->LayerNorm(in.view, ones, ones, 1e-6f, nullptr, out.view);
  got = device.Download(out.view);
  for (int64_t i = 0; i < 4 * 19; ++i) EXPECT_EQ(std::isnan(got[i]), i / 19 == 2) << i;
}

TEST_P(RowwiseConformance, SiluMul) {
  Device device(GetParam());
  Numbers numbers(4);
  constexpr int64_t kRows = 3, kCols = 71;
  std::vector<float> gate = numbers.Vector(kRows * kCols);
  const std::vector<float> up = numbers.Vector(kRows * kCols);
  for (float& value : gate) value *= 8.0f;
  gate[0] = -200.0f;  // e^200 overflows: the result is 0
  gate[1] = 200.0f;
  gate[2] = 0.0f;
  gate[3] = -88.0f;
  const DeviceMatrix in = device.Upload(gate, kRows, kCols);
  const DeviceMatrix factor = device.Upload(up, kRows, kCols, 1);
  DeviceMatrix out = device.Empty(kRows, kCols);
  device->SiluMul(in.view, factor.view, out.view);
  const std::vector<float> got = device.Download(out.view);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const double want = gate[i] / (1.0 + std::exp(-double{gate[i]})) * up[i];
    // Two units of exp, a sum, a quotient, a product; where e^-x leaves float32, the result is below 1e-36.
    EXPECT_LE(std::abs(got[i] - want), std::abs(want) * 8 * kRoundoff + 1e-35) << gate[i];
  }
  device->SiluMul(in.view, factor.view, in.view);  // in place
  EXPECT_TRUE(SameBits(device.Download(in.view), got));
  ExpectRowsApart(GetParam(), 46, 23, [&](Device& other, Matrix x, Matrix y) {
    other->SiluMul(x.Cols(0, 23), x.Cols(23, 46), y);
  });
}

TEST_P(RowwiseConformance, ReluAddAndGatherAreExact) {
  Device device(GetParam());
  const DeviceMatrix x = device.Upload({-1, 0, 2, kNan, -kInfinity, kInfinity}, 2, 3);
  device->Relu(x.view);
  const std::vector<float> relu = device.Download(x.view);
  EXPECT_EQ(Slice(relu, 0, 3), (std::vector<float>{0, 0, 2}));
  EXPECT_TRUE(std::isnan(relu[3]));
  EXPECT_EQ(Slice(relu, 4, 6), (std::vector<float>{0, kInfinity}));

  Numbers numbers(5);
  const std::vector<float> a = numbers.Vector(4 * 37);
  const std::vector<float> b = numbers.Vector(4 * 37);
  const DeviceMatrix to = device.Upload(a, 4, 37);
  const DeviceMatrix from = device.Upload(b, 4, 37, 1);
  device->Add(to.view, from.view);
  std::vector<float> sum = a;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += b[i];
  EXPECT_TRUE(SameBits(device.Download(to.view), sum));

  DeviceMatrix gathered = device.Empty(3, 37);
  device->GatherRows(to.view, {3, 0, 3}, gathered.view);
  std::vector<float> want = Slice(sum, 3 * 37, 4 * 37);
  want.insert(want.end(), sum.begin(), sum.begin() + 37);
  want.insert(want.end(), sum.begin() + 3 * 37, sum.end());
  EXPECT_TRUE(SameBits(device.Download(gathered.view), want));
}

TEST_P(RowwiseConformance, RopeTurnsPairsByTheirAngle) {
  Device device(GetParam());
  Numbers numbers(6);
  for (const auto& [head_dim, rotated] : {std::pair{64, 64}, {20, 20}, {80, 32}, {2, 2}}) {
    constexpr int64_t kRows = 5, kHeads = 3;
    const std::vector<int32_t> positions = {0, 1, 77, 4095, 131071};
    const std::vector<int32_t> slots(kRows, -1);
    const std::vector<BatchSequence> sequences = {{kRows, {}}};
    std::vector<float> frequencies;
    for (int64_t i = 0; i < rotated / 2; ++i) {
      frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / rotated)));
    }
    const auto batch = device->PrepareBatch({positions, slots, sequences, {}, {}});
    DeviceMatrix table = device.Empty(kRows, rotated);
    constexpr float kScale = 1.25f;
    device->RopeTable(*batch, device.UploadVector(frequencies), kScale, table.view);
    const std::vector<float> angles = device.Download(table.view);
    const int64_t half = rotated / 2;
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<float>(positions[t]) * frequencies[i];
        const float* row = angles.data() + t * rotated;
        EXPECT_NEAR(row[i], std::cos(angle) * kScale, 4 * kRoundoff) << positions[t];
        EXPECT_NEAR(row[half + i], std::sin(angle) * kScale, 4 * kRoundoff) << positions[t];
      }
    }
    const std::vector<float> x = numbers.Vector(kRows * kHeads * head_dim);
    const DeviceMatrix in = device.Upload(x, kRows, kHeads * head_dim);
    device->Rope(table.view, head_dim, in.view);
    const std::vector<float> got = device.Download(in.view);
    for (int64_t i = 0; i < kRows * kHeads * head_dim; ++i) {
      const int64_t e = i % head_dim;
      const float* row = angles.data() + i / (kHeads * head_dim) * rotated;
      if (e >= rotated) {
        EXPECT_EQ(got[i], x[i]);
        continue;
      }
      const double other = e < half ? -x[i + half] : x[i - half];
      const double want = x[i] * double{row[e % half]} + other * row[half + e % half];
      EXPECT_NEAR(got[i], want, 3 * kScale * kRoundoff * (std::abs(x[i]) + std::abs(other)));
    }
  }
}

TEST_P(RowwiseConformance, TopKOrdersTiesAndNan) {
  Device device(GetParam());
  Numbers numbers(7);
  constexpr int64_t kRows = 6, kCols = 333;
  std::vector<float> x = numbers.Vector(kRows * kCols);
  for (int64_t i = 0; i < kCols; ++i) x[kCols + i] = static_cast<float>(i % 7);  // many ties
  for (int64_t i = 0; i < kCols; ++i) x[2 * kCols + i] = kNan;
  for (int64_t i = 0; i < kCols; i += 3) x[3 * kCols + i] = kNan;
  x[4 * kCols + 100] = kInfinity;
  for (int64_t i = 0; i < kCols; ++i) x[5 * kCols + i] = -kInfinity;
  const DeviceMatrix in = device.Upload(x, kRows, kCols);
  for (const int32_t k : {1, 2, 5, 64, 333}) {
    std::vector<int32_t> columns(kRows * k);
    std::vector<float> values(kRows * k);
    device->TopK(in.view, k, absl::MakeSpan(columns), absl::MakeSpan(values));
    for (int64_t t = 0; t < kRows; ++t) {
      const float* row = x.data() + t * kCols;
      std::vector<int32_t> order(kCols);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [row](int32_t a, int32_t b) {
        if (std::isnan(row[a]) || std::isnan(row[b])) return !std::isnan(row[a]) && std::isnan(row[b]);
        return row[a] > row[b];
      });
      order.resize(k);
      EXPECT_EQ(std::vector<int32_t>(columns.begin() + t * k, columns.begin() + (t + 1) * k), order)
          << "row " << t << " k " << k;
      for (int32_t i = 0; i < k; ++i) {
        const float want = row[order[i]];
        EXPECT_TRUE(values[t * k + i] == want || (std::isnan(want) && std::isnan(values[t * k + i])));
      }
    }
  }
  device->TopK(in.view.Rows(0, 0), 1, {}, {});
}

TEST_P(RowwiseConformance, NumericsNameTheBackend) {
  Device one(GetParam(), 1);
  Device three(GetParam(), 3);
  EXPECT_EQ(one->name(), GetParam().backend);
  EXPECT_FALSE(one->numerics().empty());
  EXPECT_EQ(one->numerics(), three->numerics()) << "threads do not change bits";
}

INSTANTIATE_TEST_SUITE_P(Backends, RowwiseConformance, ::testing::ValuesIn(AllBackendCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mirrorsd::engine::conformance
