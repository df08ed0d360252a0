#pragma once
// Reads the small text files of a Hugging Face model folder whole, with a limit. Weights are not
// read here. Blocks on the file system; callable from any thread.

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace mirrorsd::text {

inline constexpr size_t kMaxTokenizerFileBytes = size_t{128} << 20;  // the largest known: 34 MB
inline constexpr size_t kMaxConfigFileBytes = size_t{16} << 20;

// "DIR/NAME", as messages name it.
std::string ModelFilePath(const std::string& model_dir, const std::string& name);

// The file's content, or none if there is no such file.
// Errors:  a folder that is not there, a file that cannot be read, one above `max_bytes`
absl::StatusOr<std::optional<std::string>> ReadOptionalModelFile(const std::string& model_dir,
                                                                 const std::string& name,
                                                                 size_t max_bytes);

// The same where the file must be there; `needed_for` completes "a Hugging Face model folder needs
// it ...".
absl::StatusOr<std::string> ReadModelFile(const std::string& model_dir, const std::string& name,
                                          size_t max_bytes, const std::string& needed_for);

}  // namespace mirrorsd::text
