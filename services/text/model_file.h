#pragma once
// The small text files of a model: of a Hugging Face folder, read whole with a limit, or of a model that was made
// in memory and has no folder. Weights are not read here. Blocks on the file system; callable from any thread.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace mirrorsd::text {

inline constexpr size_t kMaxTokenizerFileBytes = size_t{128} << 20;  // the largest known: 34 MB
inline constexpr size_t kMaxConfigFileBytes = size_t{16} << 20;

// Where a model's text files are. Nothing is read when it is made.
class ModelFiles {
 public:
  // A folder. Implicit: most models are one, and then its path is all there is to say.
  ModelFiles(std::string folder) : name_(std::move(folder)) {}  // NOLINT
  ModelFiles(const char* folder) : name_(folder) {}             // NOLINT
  ModelFiles() = default;
  // Of a model made in memory: texts by file name; `name` stands for the folder in messages.
  ModelFiles(std::string name, std::map<std::string, std::string> texts)
      : name_(std::move(name)), texts_(std::move(texts)) {}

  const std::string& name() const { return name_; }
  bool is_folder() const { return !texts_.has_value(); }

  // "DIR/NAME", as messages name it.
  std::string Path(const std::string& file) const;

  // The file's content, or none if there is no such file.
  // Errors:  a folder that is not there, a file that cannot be read, one above `max_bytes`
  absl::StatusOr<std::optional<std::string>> ReadOptional(const std::string& file,
                                                          size_t max_bytes) const;

 private:
  std::string name_;
  std::optional<std::map<std::string, std::string>> texts_;
};

// A file that must be there; `needed_for` completes "a Hugging Face model folder needs it ...".
absl::StatusOr<std::string> ReadModelFile(const ModelFiles& files, const std::string& file,
                                          size_t max_bytes, const std::string& needed_for);

}  // namespace mirrorsd::text
