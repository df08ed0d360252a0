#include "tests/conformance/device.h"

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "hwy/highway.h"
#include "hwy/targets.h"
#include "workers/engine/backend/backends.h"

namespace mirrorsd::engine::conformance {
namespace {

// Sanitized builds have one vector target.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = HWY_IS_ASAN || HWY_IS_TSAN;
#endif

}  // namespace

std::vector<BackendCase> AllBackendCases() {
  std::vector<BackendCase> cases;
  for (const BackendInfo& info : RegisteredBackends()) {
    if (!info.available) continue;
    cases.push_back({info.name, info.name, 0});
    if (info.name != "cpu" || kSanitized) continue;
    // The narrower instruction sets, that processors of users have.
    const int64_t supported = hwy::SupportedTargets();
    for (const int64_t target : {int64_t{HWY_AVX2}, int64_t{HWY_SSE4}}) {
      const bool is_widest = (supported & (target - 1)) == 0;
      if ((supported & target) == 0 || is_widest) continue;
      cases.push_back({info.name + "_" + hwy::TargetName(target), info.name, target});
    }
  }
  return cases;
}

std::unique_ptr<Backend> Make(const BackendCase& backend_case, int32_t num_threads) {
  if (backend_case.simd_target != 0) hwy::SetSupportedTargetsForTest(backend_case.simd_target);
  BackendOptions options;
  options.num_threads = num_threads;
  absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(backend_case.backend, options);
  if (backend_case.simd_target != 0) hwy::SetSupportedTargetsForTest(0);
  if (!backend.ok()) {
    ADD_FAILURE() << backend.status();
    return nullptr;
  }
  return *std::move(backend);
}

std::vector<OpCase> AllOpCases() {
  std::vector<OpCase> cases;
  for (const BackendCase& backend_case : AllBackendCases()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      cases.push_back({backend_case, dtype});
    }
  }
  return cases;
}

DeviceMatrix Device::Empty(int64_t rows, int64_t cols, int64_t extra_columns) {
  const int64_t stride = cols + extra_columns;
  // One row is never of size zero, so that an address exists.
  absl::StatusOr<Buffer> buffer =
      backend_->Allocate((rows + 1) * stride * static_cast<int64_t>(sizeof(float)));
  CHECK(buffer.ok()) << buffer.status().ToString();
  return {*buffer, Matrix{buffer->f32(), rows, cols, stride}};
}

DeviceMatrix Device::Upload(const std::vector<float>& values, int64_t rows, int64_t cols,
                            int64_t extra_columns) {
  CHECK_EQ(static_cast<int64_t>(values.size()), rows * cols);
  DeviceMatrix matrix = Empty(rows, cols, extra_columns);
  // What lies between the rows must not matter.
  const std::vector<float> poison(static_cast<size_t>(extra_columns),
                                  std::numeric_limits<float>::quiet_NaN());
  for (int64_t row = 0; row < rows; ++row) {
    backend_->CopyToDevice(absl::MakeConstSpan(values).subspan(row * cols, cols), matrix.view.Row(row));
    backend_->CopyToDevice(poison, matrix.view.Row(row) + cols);
  }
  return matrix;
}

Buffer Device::UploadVector(const std::vector<float>& values) {
  absl::StatusOr<Buffer> buffer =
      backend_->LoadVector({HostMatrix::Of(values.data(), DType::kF32, 1, static_cast<int64_t>(values.size()))});
  CHECK(buffer.ok()) << buffer.status().ToString();
  return *buffer;
}

std::vector<float> Device::Download(Matrix matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  for (int64_t row = 0; row < matrix.rows; ++row) {
    backend_->CopyToHost(matrix.Row(row), absl::MakeSpan(values).subspan(row * matrix.cols, matrix.cols));
  }
  CHECK(backend_->Synchronize().ok());
  return values;
}

std::unique_ptr<Weight> Device::Load(std::vector<HostMatrix> parts) {
  absl::StatusOr<std::unique_ptr<Weight>> weight = backend_->LoadWeight(parts);
  CHECK(weight.ok()) << weight.status().ToString();
  return *std::move(weight);
}

::testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure() << "sizes " << a.size() << " and " << b.size();
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) {
      return ::testing::AssertionFailure() << "at " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace mirrorsd::engine::conformance
