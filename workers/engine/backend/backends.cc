#include "workers/engine/backend/backends.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/backend/cpu/naive/naive_backend.h"
#include "workers/engine/backend/cpu/simd/simd_backend.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kMaxThreads = 1024;

struct Row {
  const char* name;
  const char* description;
  // What it would run on, or an empty text and why it cannot.
  std::string (*probe)(std::string* why_not);
  absl::StatusOr<std::unique_ptr<Backend>> (*create)(const BackendOptions& options);
};

// The table of backends. A new device is one row here and one folder beside cpu/.
const std::vector<Row>& Rows() {
  static const std::vector<Row>* const rows = new std::vector<Row>{
      {"cpu", "vector kernels on the CPU", [](std::string*) { return cpu::SimdTarget(); },
       [](const BackendOptions& options) -> absl::StatusOr<std::unique_ptr<Backend>> {
         return cpu::MakeSimdBackend(options.num_threads);
       }},
      {"naive", "scalar reference on the CPU, for tests", [](std::string*) { return std::string("scalar"); },
       [](const BackendOptions& options) -> absl::StatusOr<std::unique_ptr<Backend>> {
         return cpu::MakeNaiveBackend(options.num_threads);
       }},
  };
  return *rows;
}

}  // namespace

std::vector<BackendInfo> RegisteredBackends() {
  std::vector<BackendInfo> infos;
  for (const Row& row : Rows()) {
    std::string why_not;
    const std::string device = row.probe(&why_not);
    infos.push_back({row.name, row.description, !device.empty(), device.empty() ? why_not : device});
  }
  return infos;
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(absl::string_view name,
                                                       const BackendOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return InvalidField("num_threads", absl::StrCat("is ", options.num_threads),
                        absl::StrCat("0 (all processors) to ", kMaxThreads));
  }
  std::string names;
  for (const Row& row : Rows()) {
    if (name == row.name) {
      std::string why_not;
      if (row.probe(&why_not).empty()) return Unavailable("NO_DEVICE", why_not);
      return row.create(options);
    }
    absl::StrAppend(&names, names.empty() ? "" : ", ", row.name);
  }
  return InvalidField("backend", absl::StrCat("unknown backend \"", name, "\""), names);
}

}  // namespace mirrorsd::engine
