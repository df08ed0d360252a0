#pragma once
// The texts of profiles/*.json, as the build found them. Only for profile_file.cc.

#include <cstddef>

namespace mirrorsd::pacing {

struct BuiltinProfile {
  const char* name;
  const char* text;
};

extern const BuiltinProfile kBuiltinProfiles[];  // in alphabetical order
extern const size_t kNumBuiltinProfiles;

}  // namespace mirrorsd::pacing
