// Any bytes as a device profile: either an error that names the file, or times that are finite, not negative and
// never fall with more rows.

#include <cmath>
#include <cstdint>

#include "common/check.h"
#include "common/error.h"
#include "workers/pacing/profile_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::pacing;  // NOLINT
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<DeviceProfile> profile = ParseDeviceProfile("fuzz.json", text);
  if (!profile.ok()) {
    const auto info = mirrorsd::GetErrorInfo(profile.status());
    CHECK(info.has_value() && info->reason == "BAD_FILE" && info->field == "fuzz.json");
    CHECK_LT(profile.status().message().size(), size_t{1024});
    return 0;
  }
  CHECK(profile->num_layers >= 1 && !profile->name.empty());
  double before = 0;
  for (int64_t rows = 1; rows <= 1 << 17; rows *= 2) {
    const double seconds = profile->PassSeconds(rows, rows, rows);
    CHECK(std::isfinite(seconds) && seconds >= before);
    before = seconds;
    CHECK(profile->HeadSeconds(rows, false) >= 0);
  }
  const double factor = JitterFactor(profile->jitter, size);
  CHECK(factor > 0.1 && factor < 10);
  return 0;
}
