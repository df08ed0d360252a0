#pragma once
// The loops over a whole row of the vocabulary that sampling is made of. The same bits for every
// instruction set: each element is computed alone, sums have one order, and the largest has one index.
// Pure functions, callable from any thread.

#include <cstddef>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/noise.h"

namespace mirrorsd::engine {

// The largest value of a row; of equal ones the lowest id.
struct RowPeak {
  TokenId token = -1;  // -1 for an empty row or one with NaN
  float value = 0.0f;
  bool has_nan = false;
};
RowPeak FindPeak(absl::Span<const float> row);

// The first index >= begin whose value is at least `floor`, or the row's size. NaN is never at least anything.
size_t FindAtLeast(absl::Span<const float> row, size_t begin, float floor);

// noise[x] = GumbelNoise(key, x).
void FillGumbelRow(const NoiseKey& key, absl::Span<float> noise);

// row[x] = row[x] / divisor.
void DivideRow(absl::Span<float> row, float divisor);

// row[x] = row[x] + noise[x]. Shapes: noise[>= V]
void AddRow(absl::Span<float> row, absl::Span<const float> noise);

// e^(logit - peak) as top-p counts it; what lies more than 80 below the peak counts as nothing.
float SoftmaxWeight(float logit, float peak);

// The sum of SoftmaxWeight over a row: sixteen interleaved sums in double precision, added in order.
double SumSoftmaxWeights(absl::Span<const float> row, float peak);

}  // namespace mirrorsd::engine
