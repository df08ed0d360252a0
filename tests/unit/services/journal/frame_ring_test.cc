#include "services/journal/frame_ring.h"

#include <deque>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace mirrorsd::journal {
namespace {

std::string Bytes(const FrameRing& ring) {
  std::string bytes;
  ring.AppendTo(&bytes);
  return bytes;
}

TEST(FrameRingTest, KeepsTheLastEventsWithTheirNotes) {
  FrameRing ring(2, 1024);
  ring.AddNote("lost");
  ring.AddEvent("a");
  ring.AddNote("1");
  ring.AddEvent("b");
  ring.AddEvent("c");
  ring.AddNote("3");
  EXPECT_EQ(Bytes(ring), "bc3");
  EXPECT_EQ(ring.first_event(), 2u);
  EXPECT_EQ(ring.num_events(), 2u);
}

TEST(FrameRingTest, IsBoundedByBytesWhateverTheEvents) {
  FrameRing ring(1000, 10);
  ring.AddEvent("aaaa");
  ring.AddNote("bbbb");
  ring.AddEvent("cccc");
  EXPECT_EQ(Bytes(ring), "cccc");
  EXPECT_EQ(ring.first_event(), 2u);
  ring.AddEvent(std::string(11, 'd'));  // fits nowhere: nothing is left, and its notes have no place
  ring.AddNote("e");
  EXPECT_EQ(Bytes(ring), "");
  ring.AddEvent("f");
  EXPECT_EQ(Bytes(ring), "f");
  EXPECT_EQ(ring.first_event(), 4u);
  ring.AddEvent("");
  EXPECT_EQ(Bytes(ring), "");
  EXPECT_EQ(ring.first_event(), 6u);
}

// Against the simplest ring there is.
TEST(FrameRingTest, RandomFramesAroundTheCircle) {
  std::mt19937 random(1);
  FrameRing ring(20, 256);
  std::deque<std::pair<std::string, bool>> model;
  size_t num_bytes = 0, num_events = 0;
  const auto drop = [&] {
    do {
      num_bytes -= model.front().first.size();
      num_events -= model.front().second;
      model.pop_front();
    } while (!model.empty() && !model.front().second);
  };
  for (int i = 0; i < 5000; ++i) {
    const bool is_event = random() % 3 != 0;
    const std::string frame = absl::StrCat("<", std::string(random() % 40, 'a' + i % 26), i, ">");
    if (is_event && num_events == 20) drop();
    while (num_bytes + frame.size() > 256) drop();
    if (is_event || !model.empty()) {
      model.emplace_back(frame, is_event);
      num_bytes += frame.size();
      num_events += is_event;
    }
    is_event ? ring.AddEvent(frame) : ring.AddNote(frame);
    std::string expected;
    for (const auto& [bytes, unused] : model) expected += bytes;
    ASSERT_EQ(Bytes(ring), expected);
    ASSERT_EQ(ring.num_events(), num_events);
  }
}

}  // namespace
}  // namespace mirrorsd::journal
