// SHA-256 against the vectors of NIST (FIPS 180-4 examples, CAVP short messages), however the input
// is cut.

#include "common/sha256.h"

#include <string>

#include "gtest/gtest.h"

namespace mirrorsd {
namespace {

TEST(Sha256, NistVectors) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256Hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                      "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(Sha256Hex("\xd3"), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
  EXPECT_EQ(Sha256Hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, CutsDoNotMatter) {
  std::string text;
  for (int i = 0; i < 300; ++i) text.push_back(static_cast<char>(i * 7));
  for (size_t size = 0; size <= text.size(); ++size) {
    const std::string whole = Sha256Hex(text.substr(0, size));
    Sha256 pieces;
    for (size_t begin = 0, step = 1; begin < size; begin += step, step = step * 3 % 67 + 1) {
      pieces.Update(std::string_view(text).substr(begin, std::min(step, size - begin)));
    }
    EXPECT_EQ(pieces.FinishHex(), whole) << size;
  }
}

}  // namespace
}  // namespace mirrorsd
