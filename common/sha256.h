#pragma once
// SHA-256 (FIPS 180-4), for fingerprints of vocabularies and models. Not for secrets: nothing here
// runs in constant time. One object per digest, one thread at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mirrorsd {

class Sha256 {
 public:
  Sha256();

  void Update(const void* data, size_t size_bytes);
  void Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }

  // Ends the digest: call it once, and nothing after it.
  std::array<uint8_t, 32> Finish();
  // The same in 64 lower-case hexadecimal digits.
  std::string FinishHex();

 private:
  void Compress(const uint8_t* block);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> pending_;
  uint64_t size_bytes_ = 0;
};

std::string Sha256Hex(std::string_view bytes);

}  // namespace mirrorsd
