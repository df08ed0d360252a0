#include "scheduler/odds/ngram_window.h"

#include <random>

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

using Tokens = std::vector<TokenId>;

TEST(NgramWindow, IsWhatFollowedTheSameTokens) {
  EXPECT_EQ(NgramWindow(Tokens{1, 2, 3, 4, 5, 1, 2, 3}, 2), (Tokens{4, 5}));
  EXPECT_EQ(NgramWindow(Tokens{1, 2, 3, 4, 5, 1, 2, 3}, 9), (Tokens{4, 5, 1, 2, 3}));
  // Three tokens that match count more than two that match later.
  EXPECT_EQ(NgramWindow(Tokens{7, 1, 2, 40, 8, 1, 2, 50, 7, 1, 2}, 1), (Tokens{40}));
  EXPECT_EQ(NgramWindow(Tokens{1, 2, 40, 8, 1, 2, 50, 9, 1, 2}, 1), (Tokens{50}));
  // Its own end does not count, but a repetition may overlap it.
  EXPECT_EQ(NgramWindow(Tokens{5, 5, 5}, 3), (Tokens{5}));
}

TEST(NgramWindow, IsEmptyWhereNothingMatches) {
  EXPECT_TRUE(NgramWindow(Tokens{}, 4).empty());
  EXPECT_TRUE(NgramWindow(Tokens{1}, 4).empty());
  EXPECT_TRUE(NgramWindow(Tokens{1, 2}, 4).empty());
  EXPECT_TRUE(NgramWindow(Tokens{1, 2, 3, 4}, 4).empty());
  EXPECT_TRUE(NgramWindow(Tokens{1, 2, 1, 2}, 0).empty());
}

// Against a search written the obvious way.
TEST(NgramWindow, AgreesWithTheNaiveSearch) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 2000; ++trial) {
    Tokens tokens(random() % 30);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 3);
    const int32_t most = static_cast<int32_t>(random() % 5);
    Tokens expected;
    const int size = static_cast<int>(tokens.size());
    for (int n = 3; n >= 2 && expected.empty() && most > 0; --n) {
      for (int end = n; end < size; ++end) {
        bool same = size >= n;
        for (int i = 0; i < n; ++i) same = same && tokens[end - n + i] == tokens[size - n + i];
        if (same) {
          expected.assign(tokens.begin() + end, tokens.begin() + std::min(size, end + most));
        }
      }
    }
    EXPECT_EQ(NgramWindow(tokens, most), expected) << trial;
  }
}

}  // namespace
}  // namespace mirrorsd::scheduler
