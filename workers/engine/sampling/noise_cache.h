#pragma once
// Rows of Gumbel noise, kept a while: the early exit, the target and a repeated row of one position use
// the same one. Bounded; the row used longest ago goes. Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/noise.h"

namespace mirrorsd::engine {

class NoiseCache {
 public:
  // `max_rows` >= 1.
  NoiseCache(int32_t vocabulary_size, int32_t max_rows);

  // noise[x] = GumbelNoise(key, x) for every x of the vocabulary; good until the next call.
  absl::Span<const float> Row(const NoiseKey& key);

  int64_t num_computed() const { return num_computed_; }

 private:
  struct Entry {
    NoiseKey key;
    int64_t used_at = 0;
    std::vector<float> noise;
  };

  int32_t vocabulary_size_;
  size_t max_rows_;
  int64_t num_uses_ = 0;
  int64_t num_computed_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace mirrorsd::engine
