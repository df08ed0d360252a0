#include "services/text/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace mirrorsd::text {
namespace {

std::string Lossy(std::string_view bytes) {
  LossyUtf8Decoder decoder;
  std::string text;
  decoder.Feed(bytes, &text);
  decoder.Flush(&text);
  return text;
}

std::string ReadMarks(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += kReplacementCharacter;
  return text;
}

TEST(Utf8, ValidatesEveryLengthAndItsBounds) {
  for (const char* good : {"", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << testing::PrintToString(good);
  }
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC2", "\xE2\x82", "\xF0\x9F\x99", "\xFF"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << testing::PrintToString(bad);
  }
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9\xE2\x82z"), 3u);
}

// Unicode 15, table 3-8 and its neighbours: one mark per maximal subpart.
TEST(Utf8, BrokenPartsBecomeOneMarkEach) {
  EXPECT_EQ(Lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), ReadMarks(8) + "A");
  EXPECT_EQ(Lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), ReadMarks(8) + "A");
  EXPECT_EQ(Lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), ReadMarks(5) + "A" + ReadMarks(2) + "B");
  EXPECT_EQ(Lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), ReadMarks(4) + "A");
  EXPECT_EQ(Lossy("\xE2\x82"), ReadMarks(1));
  EXPECT_EQ(Lossy("\xE2\x82\xE2\x82\xAC"), ReadMarks(1) + "\xE2\x82\xAC");
}

TEST(Utf8, HoldsBackAtMostThreeBytes) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82";
  LossyUtf8Decoder decoder;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    decoder.Feed(std::string_view(text).substr(i, 1), &out);
    EXPECT_EQ(out, text.substr(0, ValidUtf8Prefix(text.substr(0, i + 1))));
    EXPECT_EQ(decoder.held_bytes(), i + 1 - out.size());
    EXPECT_LE(decoder.held_bytes(), 3u);
  }
  EXPECT_EQ(out, text);
}

}  // namespace
}  // namespace mirrorsd::text
