// How well emulated step times are kept: passes of each profile with an exit in the middle, no compute in between.
// pacing_bench [PASSES] [PROFILE ...]; prints one JSON object. What the clock says after each sleep is compared with
// the deadline (late), and the length of the pass with the profile's (error): the second must not be the sum of the
// first.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "workers/pacing/device_pacer.h"
#include "workers/pacing/profile_file.h"

namespace {

using namespace mirrorsd::pacing;  // NOLINT

constexpr int32_t kLayers = 8;

// The host's clock, which writes down how late each sleep ended.
class WatchedClock final : public PacingClock {
 public:
  int64_t NowNs() override { return HostPacingClock().NowNs(); }
  void SleepUntilNs(int64_t deadline_ns) override {
    HostPacingClock().SleepUntilNs(deadline_ns);
    late_ns.push_back(static_cast<double>(NowNs() - deadline_ns));
  }
  std::vector<double> late_ns;
};

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))] / 1e3;
}

void Measure(const DeviceProfile& with_jitter, int num_passes, bool first) {
  DeviceProfile profile = with_jitter;
  profile.jitter = {};
  WatchedClock clock;
  DevicePacer pacer(profile, &clock);
  std::vector<double> errors_ns;
  const double wanted_ns =
      1e9 * (profile.PassSeconds(1, 1, 100) + profile.HeadSeconds(1, /*is_final=*/false));
  for (int pass = 0; pass < num_passes; ++pass) {
    const int64_t started_ns = clock.NowNs();
    pacer.OnPassBegin({.num_rows = 1, .num_logits_rows = 1, .num_kv_tokens = 100, .num_layers = kLayers});
    pacer.OnLayers(0, kLayers / 2);
    pacer.OnHead(kLayers / 2, 1);
    for (int32_t layer = kLayers / 2; layer < kLayers; ++layer) pacer.OnLayers(layer, layer + 1);
    pacer.OnHead(kLayers, 1);
    errors_ns.push_back(static_cast<double>(clock.NowNs() - started_ns) - wanted_ns);
  }
  const PacingCounts counts = pacer.counts();
  std::printf("%s\"%s\": {\"pass_us\": %.1f, \"steps\": %lld, \"overruns\": %lld, \"late_us_p50\": %.1f, "
              "\"late_us_p99\": %.1f, \"late_us_max\": %.1f, \"pass_error_us_p50\": %.1f, "
              "\"pass_error_us_p99\": %.1f}",
              first ? "" : ", ", profile.name.c_str(), wanted_ns / 1e3,
              static_cast<long long>(counts.num_steps), static_cast<long long>(counts.num_overruns),  // NOLINT
              Quantile(clock.late_ns, 0.5), Quantile(clock.late_ns, 0.99), Quantile(clock.late_ns, 1),
              Quantile(errors_ns, 0.5), Quantile(errors_ns, 0.99));
}

}  // namespace

int main(int argc, char** argv) {
  const int num_passes = argc > 1 ? std::max(1, std::atoi(argv[1])) : 200;
  std::vector<std::string> names(argv + std::min(argc, 2), argv + argc);
  if (names.empty()) names = BuiltinProfileNames();
  std::printf("{");
  for (const std::string& name : names) {
    const auto profile = LoadDeviceProfile(name);
    if (!profile.ok()) {
      std::fprintf(stderr, "%s\n", profile.status().ToString().c_str());
      return 1;
    }
    Measure(*profile, num_passes, name == names.front());
  }
  std::printf("}\n");
  return 0;
}
