// Purpose: the registry names its backends and refuses what it does not have, saying what there is.

#include "workers/engine/backend/backends.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/ieee_math.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "workers/engine/backend/cpu/simd/kernels.h"

namespace mirrorsd::engine {
namespace {

using ::testing::HasSubstr;

TEST(Backends, TheCpuIsAlwaysThere) {
  for (const std::string name : {"cpu", "naive"}) {
    absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(name, {1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->name(), name);
    EXPECT_THAT((*backend)->numerics(), HasSubstr(name));
  }
  EXPECT_EQ(RegisteredBackends().front().name, "cpu");
  for (const BackendInfo& info : RegisteredBackends()) EXPECT_FALSE(info.detail.empty()) << info.name;
}

TEST(Backends, UnknownNamesAndThreadCountsAreRefused) {
  const absl::Status unknown = CreateBackend("abacus").status();
  EXPECT_EQ(GetErrorInfo(unknown)->field, "backend");
  EXPECT_THAT(GetErrorInfo(unknown)->limit, HasSubstr("cpu, naive"));
  EXPECT_EQ(GetErrorInfo(CreateBackend("cpu", {-1}).status())->field, "num_threads");
  EXPECT_EQ(GetErrorInfo(CreateBackend("cpu", {100000}).status())->field, "num_threads");
}

TEST(Backends, MemoryThatIsNotThereIsAnErrorOfTheWorld) {
  for (const std::string name : {"cpu", "naive"}) {
    std::unique_ptr<Backend> backend = *CreateBackend(name, {1});
    const absl::Status status = backend->Allocate(int64_t{1} << 60).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(GetErrorInfo(status)->reason, "OUT_OF_MEMORY");
    KvShape shape{80, 1 << 26, 16, 64, 1024};
    EXPECT_EQ(GetErrorInfo(backend->AllocateKv(shape).status())->reason, "OUT_OF_MEMORY");
  }
}

TEST(SimdKernels, ExpHasTheBitsOfExpF) {
  std::vector<float> x;
  for (int i = -150000; i <= 150000; ++i) x.push_back(static_cast<float>(i) * 0.0007f);
  for (const float special : {-INFINITY, INFINITY, NAN, 0.0f, -0.0f, 1e-30f, 88.72283f, 88.7229f,
                              -103.9721f, -103.98f, -87.4f, 1e30f, -1e30f}) {
    x.push_back(special);
  }
  std::vector<float> got(x.size());
  cpu::ChooseKernels().exp(x.data(), got.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(ieee::Bits<uint32_t>(got[i]), ieee::Bits<uint32_t>(ExpF(x[i]))) << x[i];
  }
}

}  // namespace
}  // namespace mirrorsd::engine
