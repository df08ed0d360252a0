#include "services/text/model_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::text {
namespace fs = std::filesystem;

std::string ModelFiles::Path(const std::string& file) const {
  return (fs::path(name_) / file).string();
}

absl::StatusOr<std::optional<std::string>> ModelFiles::ReadOptional(const std::string& file_name,
                                                                    size_t max_bytes) const {
  if (texts_.has_value()) {
    const auto found = texts_->find(file_name);
    if (found == texts_->end()) return std::nullopt;
    return found->second;
  }
  std::error_code error;
  if (!fs::is_directory(name_, error)) {
    return MissingFile(name_, fs::exists(name_, error)
                                  ? "not a folder; a Hugging Face model folder is expected"
                                  : "no such model folder");
  }
  const std::string path = Path(file_name);
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  if (status.type() != fs::file_type::regular) return BadFile(path, "not a regular file");
  const uintmax_t size_bytes = fs::file_size(path, error);
  if (error) return BadFile(path, error.message());
  if (size_bytes > max_bytes) {
    return BadFile(path, absl::StrCat("has ", size_bytes, " bytes"),
                   absl::StrCat(max_bytes, " bytes"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return BadFile(path, std::strerror(errno));
  std::string content(size_bytes, '\0');
  file.read(content.data(), static_cast<std::streamsize>(size_bytes));
  if (file.gcount() != static_cast<std::streamsize>(size_bytes)) {
    return BadFile(path, "became shorter while it was read");
  }
  return content;
}

absl::StatusOr<std::string> ReadModelFile(const ModelFiles& files, const std::string& file,
                                          size_t max_bytes, const std::string& needed_for) {
  absl::StatusOr<std::optional<std::string>> content = files.ReadOptional(file, max_bytes);
  if (!content.ok()) return content.status();
  if (!content->has_value()) {
    return MissingFile(
        files.Path(file),
        absl::StrCat("not found; a Hugging Face model folder needs it ", needed_for));
  }
  return **std::move(content);
}

}  // namespace mirrorsd::text
