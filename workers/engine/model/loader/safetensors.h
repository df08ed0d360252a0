#pragma once
// The safetensors format: 8 bytes of header length (little endian), a JSON header, the data. Reading
// looks at every number before it is used and never touches tensor contents. Pure functions over bytes
// (the file may be mapped); callable from any thread.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "workers/engine/model/loader/model_source.h"

namespace mirrorsd::engine {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr int kMaxTensorRank = 8;
inline constexpr int64_t kMaxTensorElements = int64_t{1} << 40;

// The type of a name such as "BF16"; kOther with a known size for those that no weight may have.
struct StoredTypeInfo {
  StoredType type;
  const char* name;
  int64_t bytes_per_element;
};
// Null where the name is not one of the format's.
const StoredTypeInfo* FindStoredType(absl::string_view name);
const StoredTypeInfo& GetStoredTypeInfo(StoredType type);

// "[640, 64]"
std::string ShapeText(absl::Span<const int64_t> shape);

// Elements of a shape. Errors: none; -1 where a dimension is negative or the product is over the limit.
int64_t NumElements(absl::Span<const int64_t> shape);

// The tensors of a whole file, by increasing name, their bytes being spans of `bytes`.
// Errors: BAD_FILE naming `path`, the tensor and the limit: header too long or cut off, not JSON, a name
//         twice, unknown dtype, shape or byte count wrong, offsets out of range, overlap, gap.
absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(absl::string_view path,
                                                           absl::Span<const uint8_t> bytes);

// The shard of each tensor, from model.safetensors.index.json; by increasing tensor name.
// Errors: BAD_FILE; a shard must be a plain file name in the same folder.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ParseSafetensorsIndex(
    absl::string_view path, absl::string_view text);

// What precedes the data of a file: length and header for tensors written one after another, in the
// order given. Names, types and shapes are looked at, not bytes.
std::string MakeSafetensorsHeader(absl::Span<const StoredTensor> tensors);

}  // namespace mirrorsd::engine
