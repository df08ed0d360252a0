#pragma once
// Element types of stored weights and the exact conversions between them and float32. Widening never
// rounds; narrowing rounds to nearest, ties to even. Pure functions, callable from any thread.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mirrorsd::engine {

enum class DType : uint8_t { kF32 = 0, kF16, kBF16 };

inline constexpr size_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// "f32", "f16", "bf16".
inline constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
  }
  return "?";
}

inline float F32FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsFromF32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float F32FromBF16(uint16_t bits) { return F32FromBits(uint32_t{bits} << 16); }

// Subnormal halves become normal floats; infinities and NaNs keep their kind and payload.
inline float F32FromF16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return F32FromBits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x0400u) {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  return F32FromBits(sign | ((magnitude + 0x1c000u) << 13));
}

inline uint16_t BF16FromF32(float value) {
  const uint32_t bits = BitsFromF32(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline uint16_t F16FromF32(float value) {
  const uint32_t bits = BitsFromF32(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // rounds to 65,536 or more
  if (magnitude < 0x38800000u) {                        // subnormal: the addition rounds in place
    const float shifted = F32FromBits(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(BitsFromF32(shifted) - 0x3f000000u);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}

// One stored element as float32; `data` need not be aligned.
inline float LoadF32(const void* data, DType dtype, int64_t index) {
  const auto* bytes = static_cast<const unsigned char*>(data) + index * static_cast<int64_t>(DTypeBytes(dtype));
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes, sizeof(half));
  return dtype == DType::kBF16 ? F32FromBF16(half) : F32FromF16(half);
}

// Stores one element, rounding where the type is narrower.
inline void StoreF32(float value, DType dtype, void* data, int64_t index) {
  auto* bytes = static_cast<unsigned char*>(data) + index * static_cast<int64_t>(DTypeBytes(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(bytes, &value, sizeof(value));
    return;
  }
  const uint16_t half = dtype == DType::kBF16 ? BF16FromF32(value) : F16FromF32(value);
  std::memcpy(bytes, &half, sizeof(half));
}

}  // namespace mirrorsd::engine
