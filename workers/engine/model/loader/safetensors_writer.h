#pragma once
// Writes a safetensors file whole: to a name beside it first, then renamed, so that a reader never sees
// half of one. Blocks on the disk.

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "workers/engine/model/loader/model_source.h"

namespace mirrorsd::engine {

// Tensors in the order given; `file` and `type_name` are not looked at.
// Errors: BAD_FILE naming the path where it cannot be written, or a tensor whose bytes do not fit its shape.
absl::Status WriteSafetensors(absl::string_view path, absl::Span<const StoredTensor> tensors);

}  // namespace mirrorsd::engine
