#pragma once
// Makes the steps of an engine last as long as those of a device profile: after the real compute of a step,
// it sleeps for what remains of the emulated time. Set it as EngineOptions::step_hook.
//
// The emulated device works through a pass without a gap: each step begins where the one before ended on the
// device, so that neither the error of a sleep nor what the host does between two steps adds up. A head's
// results reach the host after a transfer; the layers that follow an exit head do not wait for that one.
// A real model of L layers stands for the profile's N by fractions: RunLayers(b, e) takes N * (e - b) / L layers'
// time. A step whose compute takes longer, or that ends more than kLateNs after its time whatever the cause (a
// core that was not to be had), is an overrun, and counted; the steps after it catch up.
//
// The last layers and the final head are one step: nobody sees anything between them.
//
// Thread rule: the engine's thread; counts() and ResetCounts() from any.

#include <cstdint>
#include <mutex>
#include <string>

#include "workers/engine/step_hook.h"
#include "workers/pacing/device_profile.h"
#include "workers/pacing/pacing_clock.h"

namespace mirrorsd::pacing {

// What came of pacing so far. Steps are RunLayers and Head calls, the last of a pass counted as one.
struct PacingCounts {
  int64_t num_passes = 0;
  int64_t num_steps = 0;
  int64_t num_overruns = 0;    // computing took longer than the step's time, or ended kLateNs after it
  int64_t num_late_wakes = 0;  // other steps that ended more than kLateNs late: the sleep was too long
  int64_t emulated_ns = 0;    // what the steps should have taken
  int64_t overrun_ns = 0;     // by how much overruns ended after their time
  int64_t late_ns = 0;        // by how much all sleeps were too long
  int64_t max_late_ns = 0;

  // More than one overrun in a thousand steps: figures of such a run are void.
  bool IsVoid() const { return num_overruns * 1000 > num_steps; }
  double OverrunShare() const {
    return num_steps > 0 ? static_cast<double>(num_overruns) / static_cast<double>(num_steps) : 0;
  }
  // "12,000 steps, 3 overruns (0.025 %), ..." for logs and reports.
  std::string Describe() const;
};

inline constexpr int64_t kLateNs = 200'000;

// What happened from `before` to `after` (of one pacer); the maximum is that of `after`.
PacingCounts Difference(const PacingCounts& after, const PacingCounts& before);

class DevicePacer final : public engine::StepHook {
 public:
  // `clock` outlives it; null: the host's.
  explicit DevicePacer(DeviceProfile profile, PacingClock* clock = nullptr);

  const DeviceProfile& profile() const { return profile_; }
  PacingCounts counts() const;
  // Forgets what was counted, e.g. the first passes of a process.
  void ResetCounts();

  void OnPassBegin(const engine::PassShape& shape) override;
  void OnLayers(int32_t begin, int32_t end) override;
  void OnHead(int32_t layers_done, int32_t num_rows) override;

 private:
  int64_t Nanos(double seconds) const;  // with this pass's jitter
  // Sleeps until `deadline_ns` and counts the step that began at `device_from_ns`.
  void EndStep(int64_t deadline_ns, int64_t device_from_ns);

  const DeviceProfile profile_;
  PacingClock* const clock_;

  // Of the pass.
  engine::PassShape shape_;
  double factor_ = 1;
  int64_t layers_from_ns_ = 0;  // device time at which layer 0 would have begun, had no head run so far
  int64_t device_ns_ = 0;       // the device's own time: when what it was given so far is done
  int64_t step_from_ns_ = 0;    // where the step that has not ended yet began on the device
  int64_t host_due_ns_ = 0;     // when the host should have had the step before
  int64_t host_from_ns_ = 0;    // when it had it: computing began
  uint64_t pass_index_ = 0;

  mutable std::mutex mutex_;
  PacingCounts counts_;  // guarded by mutex_
};

}  // namespace mirrorsd::pacing
