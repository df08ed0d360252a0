#pragma once
// Options of `mirrorsd bench` that are lists with commas, read with their limits. Pure functions.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/config/options.h"

namespace mirrorsd::bench {

// The words of the list, empty ones left out; none where the option is unset.
std::vector<std::string> WordList(const config::Options& options, std::string_view name);

// Errors:  a usage error that names the option, the word and the limits; an empty list is one
absl::StatusOr<std::vector<int>> IntegerList(const config::Options& options, std::string_view name, int low,
                                             int high);

// Of --temperatures, each 0 to 100.
// Errors:  as above
absl::StatusOr<std::vector<double>> TemperatureList(const config::Options& options);

}  // namespace mirrorsd::bench
