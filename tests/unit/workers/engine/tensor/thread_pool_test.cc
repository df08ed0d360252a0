// Purpose: a loop covers every index once on any number of threads, loops follow each other without a
// mix-up, and nothing races (this file also runs under ThreadSanitizer).

#include "workers/engine/tensor/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::engine {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int32_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t n : {0, 1, 2, 7, 64, 1000, 4097}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<int> visits(static_cast<size_t>(n), 0);  // plain: chunks are disjoint
        pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end, int32_t thread) {
          EXPECT_TRUE(0 <= begin && begin < end && end <= n);
          EXPECT_TRUE(0 <= thread && thread < threads);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == n || end % grain == 0);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(static_cast<size_t>(n), 1)) << n << " by " << grain;
      }
    }
  }
}

TEST(ThreadPool, ManyShortLoopsInARowSeeTheirOwnData) {
  ThreadPool pool(4);
  std::vector<int64_t> values(256, 0);
  for (int64_t round = 1; round <= 3000; ++round) {
    // The body dies right after the loop: a late thread must never touch it.
    const std::vector<int64_t> summand(256, round);
    pool.ParallelFor(256, 16, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) values[i] += summand[i];
    });
  }
  for (const int64_t value : values) ASSERT_EQ(value, 3000 * 3001 / 2);
}

TEST(ThreadPool, SleepingThreadsWakeUp) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // beyond any spinning
    // Every thread has to take a chunk before any chunk ends.
    std::atomic<int32_t> present{0};
    std::vector<char> took_part(3, 0);
    pool.ParallelFor(3, 1, [&](int64_t, int64_t, int32_t thread) {
      took_part[thread] = 1;
      present.fetch_add(1);
      while (present.load() < 3) std::this_thread::yield();
    });
    EXPECT_EQ(took_part, std::vector<char>(3, 1));
  }
}

TEST(ThreadPool, AScratchOfAThreadIsUsedByOneChunkAtATime) {
  ThreadPool pool(4);
  std::vector<int64_t> scratch(4, 0);
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(64, 1, [&](int64_t begin, int64_t end, int32_t thread) {
      scratch[thread] += end - begin;  // a race, if two chunks had one thread index
    });
  }
  EXPECT_EQ(scratch[0] + scratch[1] + scratch[2] + scratch[3], 200 * 64);
}

TEST(ThreadPool, UnusedPoolsEnd) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(4);
  EXPECT_GE(NumUsableProcessors(), 1);
  EXPECT_EQ(ThreadPool(0).num_threads(), NumUsableProcessors());
}

}  // namespace
}  // namespace mirrorsd::engine
