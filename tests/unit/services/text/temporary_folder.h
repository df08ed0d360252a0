#pragma once
// A folder with given files, gone with the object. For tests of what reads model folders; one
// thread.

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::text {

class TemporaryFolder {
 public:
  using Files = std::vector<std::pair<std::string, std::string>>;  // name, content

  explicit TemporaryFolder(const Files& files = {}) {
    std::string path = testing::TempDir() + "/mirrorsd_text_XXXXXX";
    if (mkdtemp(path.data()) == nullptr) ADD_FAILURE() << path << ": cannot be made";
    path_ = path;
    for (const auto& [name, content] : files) Write(name, content);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  void Write(const std::string& name, const std::string& content) {
    const std::filesystem::path path = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace mirrorsd::text
