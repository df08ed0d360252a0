// Random operations against a naive model: a "KV memory" in which every position holds the exact prefix
// that it was computed from. Whatever the pool shares, evicts or reuses, a sequence must read its own prefix.

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::engine {
namespace {

constexpr int kBlockTokens = 4;
constexpr int kNumBlocks = 14;
constexpr int kMaxLength = 40;

struct Counts {
  int cached_tokens = 0, evictions = 0, refused = 0, rollbacks_into_cache = 0, forks = 0;
};

class Simulation {
 public:
  Simulation(uint32_t seed, BlockPool::HashFunction hash)
      : random_(seed), pool_(kNumBlocks, kBlockTokens, hash), memory_(kNumBlocks * kBlockTokens) {}

  void Run(int num_steps, Counts* counts) {
    for (int step = 0; step < num_steps; ++step) {
      switch (Pick(6)) {
        case 0: StartOne(counts); break;
        case 1: case 2: Extend(counts); break;
        case 3: RollBackOne(counts); break;
        case 4: ForkOne(counts); break;
        case 5: if (Pick(2) == 0) EndOne(); break;
      }
      Check();
      if (::testing::Test::HasFatalFailure()) FAIL() << "at step " << step;
    }
    counts->evictions += static_cast<int>(pool_.num_evictions());
    live_.clear();
    ASSERT_EQ(pool_.num_referenced(), 0);
    ASSERT_TRUE(pool_.CheckInvariants().ok());
  }

 private:
  struct Live {
    SequenceCache cache;
    std::vector<TokenId> tokens;  // those that are committed
  };

  int Pick(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  // Few different tokens, so that prefixes meet.
  std::vector<TokenId> RandomTokens(int n) {
    std::vector<TokenId> tokens(n);
    for (TokenId& token : tokens) token = Pick(8) == 0 ? 1 : 0;
    return tokens;
  }

  std::vector<TokenId>& Memory(const SequenceCache& cache, int position) {
    return memory_[cache.block_table()[position / kBlockTokens] * kBlockTokens + position % kBlockTokens];
  }

  void Write(Live* live, const std::vector<TokenId>& next) {
    std::vector<TokenId> prefix = live->tokens;
    for (TokenId token : next) {
      const int position = static_cast<int>(prefix.size());
      prefix.push_back(token);
      Memory(live->cache, position) = prefix;
    }
  }

  void StartOne(Counts* counts) {
    if (live_.size() >= 8) return;
    auto live = std::make_unique<Live>(Live{SequenceCache(&pool_), {}});
    const auto prompt = RandomTokens(1 + Pick(20));
    const int cached = live->cache.Start(prompt);
    ASSERT_LT(cached, static_cast<int>(prompt.size()));
    counts->cached_tokens += cached;
    live->tokens.assign(prompt.begin(), prompt.begin() + cached);
    live_.push_back(std::move(live));
  }

  // Writes a window of which only a part is committed, as a verify round does.
  void Extend(Counts* counts) {
    if (live_.empty()) return;
    Live& live = *live_[Pick(static_cast<int>(live_.size()))];
    const auto window = RandomTokens(1 + Pick(6));
    const int length = static_cast<int>(live.tokens.size() + window.size());
    if (length > kMaxLength) return;
    const int available = pool_.num_available(), capacity = live.cache.capacity();
    if (!live.cache.Reserve(length)) {
      ++counts->refused;
      ASSERT_GT((length + kBlockTokens - 1) / kBlockTokens - capacity / kBlockTokens, available);
      return;
    }
    Write(&live, window);
    const std::vector<TokenId> kept(window.begin(),
        window.begin() + Pick(1 + static_cast<int>(window.size())));
    live.cache.Commit(kept);
    live.tokens.insert(live.tokens.end(), kept.begin(), kept.end());
    if (Pick(3) == 0) live.cache.ReleaseAbove(live.cache.committed_length());
  }

  void RollBackOne(Counts* counts) {
    if (live_.empty()) return;
    Live& live = *live_[Pick(static_cast<int>(live_.size()))];
    const int length = Pick(1 + static_cast<int>(live.tokens.size()));
    const int kept = live.cache.Rollback(length);
    ASSERT_LE(kept, length);
    ASSERT_GT(kept, length - kBlockTokens);
    if (kept < length) ++counts->rollbacks_into_cache;
    live.tokens.resize(kept);
  }

  void ForkOne(Counts* counts) {
    if (live_.empty() || live_.size() >= 8) return;
    const Live& origin = *live_[Pick(static_cast<int>(live_.size()))];
    auto live = std::make_unique<Live>(Live{origin.cache.Fork(), origin.tokens});
    live->tokens.resize(live->cache.committed_length());
    live_.push_back(std::move(live));
    ++counts->forks;
  }

  void EndOne() {
    if (live_.empty()) return;
    live_.erase(live_.begin() + Pick(static_cast<int>(live_.size())));
  }

  void Check() {
    ASSERT_TRUE(pool_.CheckInvariants().ok()) << pool_.CheckInvariants();
    std::map<BlockId, int> references;
    for (const auto& live : live_) {
      ASSERT_EQ(live->cache.committed_length(), static_cast<int>(live->tokens.size()));
      std::vector<TokenId> prefix;
      for (int i = 0; i < live->cache.committed_length(); ++i) {
        prefix.push_back(live->tokens[i]);
        ASSERT_EQ(Memory(live->cache, i), prefix) << "position " << i;
      }
      for (BlockId block : live->cache.block_table()) ++references[block];
    }
    ASSERT_EQ(pool_.num_referenced(), static_cast<int>(references.size()));
    for (const auto& [block, count] : references) ASSERT_EQ(pool_.reference_count(block), count);
  }

  std::mt19937 random_;
  BlockPool pool_;
  std::vector<std::vector<TokenId>> memory_;  // [block][offset]: the prefix that its KV stands for
  std::vector<std::unique_ptr<Live>> live_;
};

void RunSeeds(BlockPool::HashFunction hash) {
  Counts counts;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Simulation(seed, hash).Run(400, &counts);
    if (::testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
  }
  // The run is worth nothing where one of these never happened.
  EXPECT_GT(counts.cached_tokens, 1000);
  EXPECT_GT(counts.evictions, 100);
  EXPECT_GT(counts.refused, 100);
  EXPECT_GT(counts.rollbacks_into_cache, 100);
  EXPECT_GT(counts.forks, 100);
}

TEST(KvCacheProperty, EverySequenceReadsItsOwnPrefix) { RunSeeds(&BlockPool::DefaultHash); }

TEST(KvCacheProperty, EvenWhereEveryHashCollides) {
  RunSeeds([](uint64_t, absl::Span<const TokenId>) { return uint64_t{0}; });
}

}  // namespace
}  // namespace mirrorsd::engine
