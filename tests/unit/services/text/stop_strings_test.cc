#include "services/text/stop_strings.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {
namespace {

TEST(StopStrings, DeliversUpToTheMatch) {
  StopStringMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.Feed("some E"), "some ");
  EXPECT_EQ(matcher.Feed("N"), "");
  EXPECT_EQ(matcher.Feed("ERGY\n"), "ENERGY");
  EXPECT_FALSE(matcher.match().has_value());
  EXPECT_EQ(matcher.Feed("\nrest"), "");
  ASSERT_TRUE(matcher.match().has_value());
  EXPECT_EQ(matcher.match()->stop_index, 1u);
  EXPECT_EQ(matcher.match()->begin_bytes, 11u);
  EXPECT_EQ(matcher.match()->end_bytes, 13u);
  EXPECT_EQ(matcher.Feed("END"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopStrings, FlushGivesWhatWasHeld) {
  StopStringMatcher matcher({"</answer>"});
  EXPECT_EQ(matcher.Feed("42</ans"), "42");
  EXPECT_EQ(matcher.Flush(), "</ans");
  StopStringMatcher none({});
  EXPECT_EQ(none.Feed("anything"), "anything");
  EXPECT_EQ(none.Flush(), "");
}

TEST(StopStrings, FirstEndThenLongest) {
  StopStringMatcher nested({"abcd", "bc", "abc"});
  EXPECT_EQ(nested.Feed("xabcd"), "x");
  EXPECT_EQ(nested.match()->stop_index, 2u);  // "bc" and "abc" end together, before "abcd"
  StopStringMatcher self_overlap({"aab"});
  EXPECT_EQ(self_overlap.Feed("aaaab!"), "aa");
}

// What the text alone says: the first end, of those the longest; else all but the longest suffix
// that may become a stop string.
struct Expected {
  std::string delivered;
  bool is_match = false;
  size_t begin = 0, end = 0;
};

Expected ByHand(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true, end - longest, end};
  }
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t k = 1; k < stop.size() && k <= text.size(); ++k) {
      if (text.compare(text.size() - k, k, stop, 0, k) == 0) held = std::max(held, k);
    }
  }
  return {text.substr(0, text.size() - held)};
}

TEST(StopStrings, AgreeWithTheDefinitionHoweverTheTextIsCut) {
  std::mt19937 random(11);
  const std::vector<std::string> letters = {"a", "b", "\u00e9", "\u00e8"};  // two share their first byte
  const auto random_text = [&](size_t max_letters) {
    std::string text;
    for (size_t n = 1 + random() % max_letters; n > 0; --n) text += letters[random() % letters.size()];
    return text;
  };
  int num_matches = 0;
  for (int i = 0; i < 5000; ++i) {
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = random_text(5);
    const std::string text = random_text(20);
    StopStringMatcher matcher(stops);
    std::string delivered;
    for (size_t begin = 0; begin < text.size();) {
      size_t end = std::min(text.size(), begin + 1 + random() % 4);
      while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;  // pieces are whole characters
      const std::string piece = matcher.Feed(text.substr(begin, end - begin));
      EXPECT_TRUE(IsValidUtf8(piece));
      delivered += piece;
      const Expected now = ByHand(text.substr(0, end), stops);
      ASSERT_EQ(delivered, now.delivered) << testing::PrintToString(stops) << " in " << text;
      ASSERT_EQ(matcher.match().has_value(), now.is_match);
      begin = end;
    }
    const Expected expected = ByHand(text, stops);
    if (expected.is_match) {
      ++num_matches;
      EXPECT_EQ(matcher.match()->begin_bytes, expected.begin);
      EXPECT_EQ(matcher.match()->end_bytes, expected.end);
      EXPECT_EQ(stops[matcher.match()->stop_index],
                text.substr(expected.begin, expected.end - expected.begin));
      EXPECT_EQ(matcher.Flush(), "");
    } else {
      EXPECT_EQ(delivered + matcher.Flush(), text);
    }
  }
  EXPECT_GT(num_matches, 1000);
  EXPECT_LT(num_matches, 4000);
}

TEST(StopStrings, BadOnesAreNamed) {
  const auto field_of = [](const std::vector<std::string>& stops) {
    const absl::Status status = ValidateStopStrings(stops);
    return status.ok() ? std::string("ok") : GetErrorInfo(status)->field;
  };
  EXPECT_EQ(field_of({}), "ok");
  EXPECT_EQ(field_of(std::vector<std::string>(16, "x")), "ok");
  EXPECT_EQ(field_of(std::vector<std::string>(17, "x")), "stop");
  EXPECT_EQ(field_of({"x", ""}), "stop[1]");
  EXPECT_EQ(field_of({std::string(256, 'x')}), "ok");
  EXPECT_EQ(field_of({std::string(257, 'x')}), "stop[0]");
  EXPECT_EQ(field_of({"\xC3"}), "stop[0]");
}

}  // namespace
}  // namespace mirrorsd::text
