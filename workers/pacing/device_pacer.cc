#include "workers/pacing/device_pacer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace mirrorsd::pacing {

std::string PacingCounts::Describe() const {
  const int64_t num_slept = std::max<int64_t>(1, num_steps - num_overruns);
  return absl::StrFormat(
      "%d steps in %d passes, %d overruns (%.3f %%%s), sleeps %.1f us late on average and %.1f us at most",
      num_steps, num_passes, num_overruns, 100 * OverrunShare(), IsVoid() ? ": VOID" : "",
      static_cast<double>(late_ns) / static_cast<double>(num_slept) / 1e3,
      static_cast<double>(max_late_ns) / 1e3);
}

PacingCounts Difference(const PacingCounts& after, const PacingCounts& before) {
  return {.num_passes = after.num_passes - before.num_passes,
          .num_steps = after.num_steps - before.num_steps,
          .num_overruns = after.num_overruns - before.num_overruns,
          .num_late_wakes = after.num_late_wakes - before.num_late_wakes,
          .emulated_ns = after.emulated_ns - before.emulated_ns,
          .overrun_ns = after.overrun_ns - before.overrun_ns,
          .late_ns = after.late_ns - before.late_ns,
          .max_late_ns = after.max_late_ns};
}

DevicePacer::DevicePacer(DeviceProfile profile, PacingClock* clock)
    : profile_(std::move(profile)), clock_(clock != nullptr ? clock : &HostPacingClock()) {}

PacingCounts DevicePacer::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

void DevicePacer::ResetCounts() {
  const std::lock_guard<std::mutex> lock(mutex_);
  counts_ = {};
}

int64_t DevicePacer::Nanos(double seconds) const {
  return static_cast<int64_t>(seconds * factor_ * 1e9 + 0.5);
}

void DevicePacer::OnPassBegin(const engine::PassShape& shape) {
  shape_ = shape;
  factor_ = JitterFactor(profile_.jitter, pass_index_++);
  device_ns_ = step_from_ns_ = host_due_ns_ = host_from_ns_ = clock_->NowNs();
  layers_from_ns_ = device_ns_ + Nanos(profile_.BeginSeconds(shape.num_rows));
  const std::lock_guard<std::mutex> lock(mutex_);
  ++counts_.num_passes;
}

void DevicePacer::OnLayers(int32_t begin, int32_t end) {
  if (begin == end) return;
  // From layer 0 each time, so that no rounding adds up.
  const double all = profile_.LayersSeconds(shape_.num_rows, shape_.num_kv_tokens);
  device_ns_ = layers_from_ns_ + Nanos(all * end / shape_.num_layers);
  if (end == shape_.num_layers && shape_.num_logits_rows > 0) return;  // the head ends this step
  EndStep(device_ns_, step_from_ns_);
  step_from_ns_ = device_ns_;
}

void DevicePacer::OnHead(int32_t layers_done, int32_t num_rows) {
  if (num_rows == 0) return;
  const int64_t head_ns = Nanos(
      profile_.HeadSeconds(num_rows, layers_done == shape_.num_layers));
  const int64_t out_ns = Nanos(profile_.transfer_out.Seconds(num_rows));
  // The device goes on with the next layers while its results travel.
  device_ns_ = std::max(device_ns_, layers_from_ns_) + head_ns;
  layers_from_ns_ += head_ns;
  EndStep(device_ns_ + out_ns, step_from_ns_);
  step_from_ns_ = device_ns_;
}

void DevicePacer::EndStep(int64_t deadline_ns, int64_t device_from_ns) {
  const int64_t computed_ns = clock_->NowNs();
  const bool overran = computed_ns - host_from_ns_ > deadline_ns - host_due_ns_ ||
                       computed_ns > deadline_ns + kLateNs;
  if (computed_ns < deadline_ns) clock_->SleepUntilNs(deadline_ns);
  host_due_ns_ = deadline_ns;
  host_from_ns_ = clock_->NowNs();
  const int64_t late_ns = overran ? 0 : std::max<int64_t>(0, host_from_ns_ - deadline_ns);
  const std::lock_guard<std::mutex> lock(mutex_);
  ++counts_.num_steps;
  counts_.emulated_ns += deadline_ns - device_from_ns;
  if (overran) {
    ++counts_.num_overruns;
    counts_.overrun_ns += std::max<int64_t>(0, computed_ns - deadline_ns);
  }
  counts_.num_late_wakes += late_ns > kLateNs ? 1 : 0;
  counts_.late_ns += late_ns;
  counts_.max_late_ns = std::max(counts_.max_late_ns, late_ns);
}

}  // namespace mirrorsd::pacing
