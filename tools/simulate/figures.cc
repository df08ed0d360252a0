#include "tools/simulate/figures.h"

#include <algorithm>
#include <numeric>

namespace mirrorsd::simulate {
namespace {

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

void Sample::Sort() { std::sort(values_.begin(), values_.end()); }

double Sample::Quantile(double q) const {
  if (values_.empty()) return 0;
  const double place = q * static_cast<double>(values_.size() - 1);
  const size_t below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values_.size() - 1);
  return values_[below] + (values_[above] - values_[below]) * (place - static_cast<double>(below));
}

double Sample::Mean() const {
  return Ratio(std::accumulate(values_.begin(), values_.end(), 0.0),
               static_cast<double>(values_.size()));
}

double Figures::TokensPerRound() const {
  return 1 + Ratio(static_cast<double>(stats.accepted_tokens), static_cast<double>(stats.rounds));
}

double Figures::AcceptanceRate() const {
  return Ratio(static_cast<double>(stats.accepted_tokens), static_cast<double>(stats.drafted_tokens));
}

double Figures::HitRate() const {
  return Ratio(static_cast<double>(stats.branch_hits),
               static_cast<double>(stats.branch_hits + stats.branch_misses));
}

double Figures::HitDepth() const {
  return Ratio(static_cast<double>(stats.branch_hit_depth_sum),
               static_cast<double>(stats.branch_hits));
}

}  // namespace mirrorsd::simulate
