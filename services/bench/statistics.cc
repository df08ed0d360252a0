#include "services/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/check.h"

namespace mirrorsd::bench {
namespace {

// The 97.5 % point of Student's t for 1 to 30 degrees of freedom; beyond, the normal's is near enough.
constexpr double kStudent[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                               2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                               2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                               2.060,  2.056, 2.052, 2.048, 2.045, 2.042};

// The share of resamples that lies below the interval's lower end, for n measurements.
double TailShare(size_t n) {
  const size_t degrees = n - 1;
  const double t = degrees <= std::size(kStudent) ? kStudent[degrees - 1] : 1.96;
  const double z = std::sqrt(static_cast<double>(n) / static_cast<double>(degrees)) * t;
  return 0.5 * std::erfc(z / std::sqrt(2.0));
}

}  // namespace

double Quantile(std::vector<double> values, double q) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const double place = std::clamp(q, 0.0, 1.0) * static_cast<double>(values.size() - 1);
  const size_t below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

double Mean(absl::Span<const double> values) {
  CHECK(!values.empty());
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

Estimate MedianEstimate(absl::Span<const double> values, const BootstrapOptions& options) {
  Estimate estimate{.count = static_cast<int64_t>(values.size())};
  if (values.empty()) return estimate;
  estimate.value = Median({values.begin(), values.end()});
  estimate.low = estimate.high = estimate.value;
  if (values.size() < 2) return estimate;
  std::mt19937_64 random(options.seed);
  std::vector<double> medians;
  std::vector<double> resample(values.size());
  for (int i = 0; i < options.num_resamples; ++i) {
    // The modulo's bias is below 1e-12 for any count that could be measured; distributions differ by library.
    for (double& value : resample) value = values[random() % values.size()];
    medians.push_back(Median(resample));
  }
  const double tail = TailShare(values.size());
  estimate.low = Quantile(medians, tail);
  estimate.high = Quantile(std::move(medians), 1 - tail);
  return estimate;
}

Estimate PairedRatio(absl::Span<const double> numerator, absl::Span<const double> denominator,
                     const BootstrapOptions& options) {
  CHECK_EQ(numerator.size(), denominator.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < numerator.size(); ++i) {
    CHECK(denominator[i] > 0);
    ratios.push_back(numerator[i] / denominator[i]);
  }
  return MedianEstimate(ratios, options);
}

bool Agree(const Estimate& a, const Estimate& b) {
  const Estimate& lower = a.value <= b.value ? a : b;
  const Estimate& upper = a.value <= b.value ? b : a;
  return upper.value - lower.value <=
         std::hypot(lower.high - lower.value, upper.value - upper.low);
}

}  // namespace mirrorsd::bench
