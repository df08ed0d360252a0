#include "workers/engine/sampling/noise_cache.h"

#include <algorithm>

#include "common/check.h"
#include "workers/engine/sampling/row_ops.h"

namespace mirrorsd::engine {

NoiseCache::NoiseCache(int32_t vocabulary_size, int32_t max_rows)
    : vocabulary_size_(vocabulary_size), max_rows_(static_cast<size_t>(max_rows)) {
  CHECK_GE(max_rows, 1);
}

absl::Span<const float> NoiseCache::Row(const NoiseKey& key) {
  ++num_uses_;
  for (Entry& entry : entries_) {
    if (entry.key == key) {
      entry.used_at = num_uses_;
      return entry.noise;
    }
  }
  if (entries_.size() < max_rows_) entries_.emplace_back();
  Entry& oldest = *std::min_element(
      entries_.begin(), entries_.end(),
      [](const Entry& a, const Entry& b) { return a.used_at < b.used_at; });
  oldest.key = key;
  oldest.used_at = num_uses_;
  oldest.noise.resize(static_cast<size_t>(vocabulary_size_));
  FillGumbelRow(key, absl::MakeSpan(oldest.noise));
  ++num_computed_;
  return oldest.noise;
}

}  // namespace mirrorsd::engine
