// Any bytes as --load-format or as a twin.json: an error that says what was wrong, or a twin whose every number is
// within its limits, which is read back from what is written of it. Shapes by name only: no file is opened.

#include <cstdint>

#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/twins/twin_json.h"
#include "workers/engine/model/twins/twin_option.h"

namespace mirrorsd::engine {
namespace {

void TakeOption(absl::string_view text) {
  if (text.find(".json") != absl::string_view::npos) return;
  const absl::StatusOr<TwinRequest> request = ParseTwinOption(text);
  if (!request.ok()) {
    CHECK(GetErrorInfo(request.status()).has_value());
    return;
  }
  CHECK(CheckTwin(request->spec).ok());
  const auto again = ParseTwinOption(TwinOptionText(request->spec, ShapeOfOption(text)));
  CHECK(again.ok() && again->spec == request->spec);
}

void TakeJson(absl::string_view text) {
  const absl::StatusOr<TwinRecord> record = ReadTwinJson("fuzz/twin.json", text);
  if (!record.ok()) {
    CHECK(GetErrorInfo(record.status()).has_value());
    return;
  }
  const std::string written = TwinJson(*record);
  const absl::StatusOr<TwinRecord> again = ReadTwinJson("fuzz/twin.json", written);
  CHECK(again.ok() && TwinJson(*again) == written);
}

}  // namespace
}  // namespace mirrorsd::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (mirrorsd::engine::IsTwinOption(text)) {
    mirrorsd::engine::TakeOption(text);
  } else {
    mirrorsd::engine::TakeJson(text);
  }
  return 0;
}
