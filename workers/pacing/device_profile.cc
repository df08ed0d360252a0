#include "workers/pacing/device_profile.h"

#include <algorithm>

#include "common/ieee_math.h"
#include "common/noise.h"

namespace mirrorsd::pacing {

double RowTable::Seconds(int64_t rows) const {
  if (points_.empty() || rows <= 0) return 0;
  if (rows <= points_.front().rows || points_.size() == 1) return points_.front().seconds;
  const auto beyond = std::upper_bound(
      points_.begin(), points_.end(), rows,
      [](int64_t wanted, const Point& point) { return wanted < point.rows; });
  // The line through two points; after the last point, that of the last two.
  const Point& to = beyond == points_.end() ? points_.back() : *beyond;
  const Point& from = *(&to - 1);
  const double slope = (to.seconds - from.seconds) / static_cast<double>(to.rows - from.rows);
  return from.seconds + slope * static_cast<double>(rows - from.rows);
}

double DeviceProfile::LayersSeconds(int64_t rows, int64_t kv_tokens) const {
  return num_layers * (layer.Seconds(rows) + kv_token_s * static_cast<double>(kv_tokens));
}

double DeviceProfile::HeadSeconds(int64_t logits_rows, bool is_final) const {
  return (is_final ? head : exit_head).Seconds(logits_rows);
}

double DeviceProfile::PassSeconds(int64_t rows, int64_t logits_rows, int64_t kv_tokens) const {
  const double out = logits_rows > 0 ? transfer_out.Seconds(logits_rows) : 0;
  return BeginSeconds(rows) + LayersSeconds(rows, kv_tokens) + HeadSeconds(logits_rows, true) + out;
}

double JitterFactor(const Jitter& jitter, uint64_t pass_index) {
  if (jitter.sigma == 0) return 1;
  const PhiloxBlock words = Philox4x32(
      {{static_cast<uint32_t>(pass_index), static_cast<uint32_t>(pass_index >> 32), 0,
        kPacingNoiseStream}},
      static_cast<uint32_t>(jitter.seed), static_cast<uint32_t>(jitter.seed >> 32));
  // Four uniform words have variance 4 / 12: close to normal, and bounded.
  double sum = 0;
  for (const uint32_t word : words.word) sum += (static_cast<double>(word) + 0.5) * 0x1p-32 - 0.5;
  constexpr double kSqrt3 = 1.7320508075688772;
  return Exp(jitter.sigma * sum * kSqrt3);
}

const char* NameOf(Basis basis) {
  switch (basis) {
    case Basis::kDerived: return "derived";
    case Basis::kPublished: return "published";
    case Basis::kMeasured: return "measured";
  }
  return "";
}

}  // namespace mirrorsd::pacing
