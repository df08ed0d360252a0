#pragma once
// Device profiles as JSON: those in profiles/, which are built into the programs and have names, and any
// other as a file. Every number is bounded, unknown keys are refused, and every time that is given needs a
// line that says where it comes from. The format stands in docs/paced-devices.md. Blocks on the file
// system; callable from any thread.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "workers/pacing/device_profile.h"

namespace mirrorsd::pacing {

// Errors: BAD_FILE naming `path`, the field and the limit.
absl::StatusOr<DeviceProfile> ParseDeviceProfile(absl::string_view path, absl::string_view text);

// The profile of that name, or, where there is a '/' or ".json" in it, that file.
// Errors: MISSING_FILE for a name that is not known (listing those that are) or no such file; those of
//         ParseDeviceProfile
absl::StatusOr<DeviceProfile> LoadDeviceProfile(const std::string& name_or_path);

// In alphabetical order.
std::vector<std::string> BuiltinProfileNames();

}  // namespace mirrorsd::pacing
