#pragma once
// What a benchmark says about repeated measurements: medians, quantiles and bootstrap intervals, paired where
// two sides alternate in one run. The bootstrap's seed is fixed, so the same measurements give the same
// interval. Not a place for measuring. Pure functions, callable from any thread.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace mirrorsd::bench {

// The value below which a share `q` (0 to 1) lies, linear between the order statistics. Values not empty.
double Quantile(std::vector<double> values, double q);
double Median(std::vector<double> values);
double Mean(absl::Span<const double> values);

// A median with the interval in which another run's is to be expected.
struct Estimate {
  double value = 0;
  double low = 0;   // == value where there are fewer than two measurements
  double high = 0;
  int64_t count = 0;  // measurements; 0: nothing was measured

  bool operator==(const Estimate&) const = default;
};

struct BootstrapOptions {
  int num_resamples = 2000;
  uint64_t seed = 1;
};

// The median and its 95 % interval. A plain percentile interval covers too little where there are few
// measurements, so the percentiles are taken further out, as Student's t does for a mean.
// Source:  Hesterberg, "What Teachers Should Know About the Bootstrap" (2015), expanded percentiles
Estimate MedianEstimate(absl::Span<const double> values, const BootstrapOptions& options = {});

// The median of numerator[i] / denominator[i]: two sides that were measured in turn, so that what disturbs the
// machine for a while disturbs both of a pair.
// Shapes:  numerator[n], denominator[n]; denominators above 0
Estimate PairedRatio(absl::Span<const double> numerator, absl::Span<const double> denominator,
                     const BootstrapOptions& options = {});

// Whether two independent estimates of one thing differ by no more than their intervals explain: the distance of
// the values against the two half-widths that face each other, added in quadrature.
bool Agree(const Estimate& a, const Estimate& b);

}  // namespace mirrorsd::bench
