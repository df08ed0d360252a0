#include "services/bench/options/synthetic.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/cell/models/load_format.h"

namespace mirrorsd::bench {

std::vector<std::string> SyntheticParts(const config::Options& options) {
  const auto has = [&](std::string_view name) { return options.Takes(name) && options.Has(name); };
  std::vector<std::string> parts;
  if (cell::TwinOf(options).has_value()) parts.emplace_back("weights");
  if (has("device-profile") || has("draft-device-profile")) parts.emplace_back("step times");
  if (has("draft-script")) parts.emplace_back("agreement");
  return parts;
}

std::string RunLabel(const config::Options& options, const std::string& otherwise) {
  const std::string label = options.Has("label") ? options.Text("label") : otherwise;
  const std::vector<std::string> parts = SyntheticParts(options);
  if (parts.empty() || absl::StrContains(label, "synthetic")) return label;
  return absl::StrCat(label, " (synthetic ", absl::StrJoin(parts, ", "), ")");
}

std::string SyntheticNote(const config::Options& options) {
  const std::vector<std::string> parts = SyntheticParts(options);
  if (parts.empty()) return "";
  return absl::StrCat("Synthetic: ", absl::StrJoin(parts, ", "), ".\n");
}

}  // namespace mirrorsd::bench
