#include "services/cell/models/load_format.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/twins/twin_option.h"

namespace mirrorsd::cell {
namespace {

bool IsGiven(const config::Options& options, std::string_view name) {
  return options.Takes(name) && options.Has(name);
}

std::string FormatOf(const config::Options& options) {
  return IsGiven(options, "load-format") ? options.Text("load-format") : "auto";
}

}  // namespace

absl::Status CheckLoadFormat(const config::Options& options) {
  const std::string format = FormatOf(options);
  if (format == "auto") return absl::OkStatus();
  const std::string place = options.Place("load-format");
  if (!engine::IsTwinOption(format)) {
    return InvalidField(place, absl::StrCat("'", format.substr(0, 60), "' is not auto or twin:SHAPE[,...]"));
  }
  for (const char* folder : {"model", "draft-model"}) {
    if (IsGiven(options, folder)) {
      return InvalidField(place, absl::StrCat("stands for target and draft, and ", options.Place(folder),
                                            " names a folder: one of the two"));
    }
  }
  const absl::StatusOr<engine::TwinRequest> request = engine::ParseTwinOption(format);
  if (!request.ok()) return request.status();
  if (request->wish.has_value()) {
    return InvalidField(place,
                        "agreement is for mirrorsd make-twin, which finds the factors for it and writes them to "
                        "twin.json; here take twin:DIR/twin.json, or draft-damping= and exit-damping=");
  }
  return absl::OkStatus();
}

std::optional<engine::TwinSpec> TwinOf(const config::Options& options) {
  const std::string format = FormatOf(options);
  if (!engine::IsTwinOption(format)) return std::nullopt;
  absl::StatusOr<engine::TwinRequest> request = engine::ParseTwinOption(format);
  if (!request.ok()) return std::nullopt;
  return std::move(request->spec);
}

bool HasModel(const config::Options& options) {
  return IsGiven(options, "model") || TwinOf(options).has_value();
}

bool HasDraft(const config::Options& options) {
  if (IsGiven(options, "draft-model")) return true;
  const std::optional<engine::TwinSpec> twin = TwinOf(options);
  return twin.has_value() && twin->draft_layers > 0;
}

}  // namespace mirrorsd::cell
