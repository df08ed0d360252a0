#pragma once
// What the conformance suite asks of a backend, through its seam alone: bring numbers in, run an op, bring
// numbers out. Test data is the same in every run.

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::engine::conformance {

// Half a unit in the last place of 1: the bound of one rounding, relative.
inline constexpr double kRoundoff = 0x1p-24;

// A backend as the suite makes it: registered name, and for the CPU one of the instruction sets of this machine.
struct BackendCase {
  std::string name;        // of the test instance
  std::string backend;
  int64_t simd_target = 0; // Highway's bit; 0: as the backend chooses
};
std::vector<BackendCase> AllBackendCases();
std::unique_ptr<Backend> Make(const BackendCase& backend_case, int32_t num_threads);

struct OpCase {
  BackendCase backend;
  DType dtype = DType::kF32;
};
std::vector<OpCase> AllOpCases();

// Numbers of roughly normal spread.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  uint32_t Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33);
  }
  int32_t Below(int32_t bound) { return static_cast<int32_t>(Next() % static_cast<uint32_t>(bound)); }
  float Normal() {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(Next()) * 0x1p-31f - 0.5f;
    return sum * 1.732f;
  }
  std::vector<float> Vector(int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& value : values) value = Normal();
    return values;
  }

 private:
  uint64_t state_;
};

// Host numbers as a stored weight; `values` become what the type can hold.
class Stored {
 public:
  Stored(int64_t rows, int64_t cols, DType dtype, Numbers& numbers, int64_t misalign_bytes = 0)
      : rows_(rows), cols_(cols), dtype_(dtype), misalign_(misalign_bytes),
        bytes_(static_cast<size_t>(rows * cols) * DTypeBytes(dtype) + 8) {
    for (int64_t i = 0; i < rows * cols; ++i) StoreF32(numbers.Normal(), dtype, data(), i);
  }
  HostMatrix view() { return HostMatrix::Of(data(), dtype_, rows_, cols_); }
  double At(int64_t row, int64_t col) { return view().At(row, col); }

 private:
  void* data() { return bytes_.data() + misalign_; }

  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  int64_t misalign_;
  std::vector<uint8_t> bytes_;
};

// A matrix on the device with its owner; wider than its columns, so that strides are tried.
struct DeviceMatrix {
  Buffer buffer;
  Matrix view;
};

class Device {
 public:
  explicit Device(const BackendCase& backend_case, int32_t num_threads = 2)
      : backend_(Make(backend_case, num_threads)) {}

  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

  DeviceMatrix Empty(int64_t rows, int64_t cols, int64_t extra_columns = 3);
  DeviceMatrix Upload(const std::vector<float>& values, int64_t rows, int64_t cols,
                      int64_t extra_columns = 3);
  Buffer UploadVector(const std::vector<float>& values);
  std::vector<float> Download(Matrix matrix);
  std::unique_ptr<Weight> Load(std::vector<HostMatrix> parts);

 private:
  std::unique_ptr<Backend> backend_;
};

// Equal bits, so that -0 and 0 differ and a NaN equals itself.
::testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b);

inline std::vector<float> Slice(const std::vector<float>& values, int64_t begin, int64_t end) {
  return {values.begin() + begin, values.begin() + end};
}

}  // namespace mirrorsd::engine::conformance
