#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/grpcpp.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/cli/commands.h"
#include "services/gateway/model_text.h"
#include "workers/engine/backend/backends.h"
#include "workers/engine/logits.h"

namespace mirrorsd::cli {
namespace {

void Line(const std::string& name, const std::string& text) {
  std::printf("%-10s %s\n", name.c_str(), text.c_str());
}

// What /proc/cpuinfo says of the first processor under `key`.
std::string CpuInfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t colon = line.find(": ");
    return colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  return "";
}

void ReportMachine() {
  Line("mirrorsd", cell::Version());
  Line("libraries", absl::StrCat("gRPC ", grpc::Version(), ", protobuf ",
                                 google::protobuf::internal::VersionString(
                                     GOOGLE_PROTOBUF_VERSION)));
  Line("cpu", absl::StrCat(CpuInfo("model name"), ", ", std::thread::hardware_concurrency(),
                           " processors"));
  const std::string flags = CpuInfo("flags");
  const std::set<std::string> has = absl::StrSplit(flags, ' ');
  std::string wanted;
  for (const char* flag : {"avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16",
                           "amx_bf16", "amx_int8"}) {
    if (has.count(flag) > 0) absl::StrAppend(&wanted, wanted.empty() ? "" : " ", flag);
  }
  Line("isa", wanted.empty() ? "none of the extensions that would be used" : wanted);
  const double pages = static_cast<double>(sysconf(_SC_PHYS_PAGES));
  const double page_bytes = static_cast<double>(sysconf(_SC_PAGE_SIZE));
  Line("memory", absl::StrFormat("%.1f GiB", pages * page_bytes / (1 << 30)));
  for (const engine::BackendInfo& backend : engine::RegisteredBackends()) {
    Line("backend", absl::StrCat(backend.name, ": ", backend.available ? "available, " : "NOT here, ",
                                 backend.description,
                                 backend.detail.empty() ? "" : absl::StrCat(" (", backend.detail, ")")));
  }
}

// Reads the folder whole, as the gateway and a worker would, and runs one token through the model.
absl::Status Examine(const std::string& folder, const std::string& backend,
                     gateway::ModelText* text, std::string* found) {
  auto loaded = gateway::LoadModelText(folder, "");
  if (!loaded.ok()) return loaded.status();
  *text = *std::move(loaded);
  engine::EngineOptions options;
  options.model_dir = folder;
  options.backend = backend;
  options.kv_bytes = 16 << 20;
  options.max_rows = 16;
  auto engine = engine::Engine::Create(options);
  if (!engine.ok()) return engine.status();
  const engine::EngineInfo& info = (*engine)->info();
  const TokenId token = 0;
  auto logits = engine::ComputePromptLogits(engine->get(), {&token, 1}, info.num_layers);
  if (!logits.ok()) return logits.status();
  for (const float value : logits->logits) {
    if (!std::isfinite(value)) return absl::FailedPreconditionError("gives logits that are no numbers");
  }
  if (text->tokenizer->vocabulary_size() > info.vocabulary_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("tokenizer.json has ", text->tokenizer->vocabulary_size(),
                     " tokens, more than the model's ", info.vocabulary_size));
  }
  *found = absl::StrFormat(
      "%d layers, vocabulary %d, context %d, %.1f MB, %s", info.num_layers, info.vocabulary_size,
      info.context_length, static_cast<double>(info.weight_bytes) / 1e6,
      text->chat_template != nullptr ? "chat template" : "no chat template");
  return absl::OkStatus();
}

struct Examined {
  bool good = false;
  std::string fingerprint;
};

Examined ReportFolder(const std::string& folder, const std::string& backend) {
  gateway::ModelText text;
  std::string found;
  const absl::Status status = Examine(folder, backend, &text, &found);
  if (!status.ok()) {
    Line("model", absl::StrCat(folder, ": BAD: ", status.message()));
    return {};
  }
  Line("model", absl::StrCat(folder, ": good: ", found));
  return {true, text.tokenizer->VocabularyFingerprint()};
}

std::vector<std::string> FoldersUnder(const std::string& base) {
  std::vector<std::string> folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(base, error)) {
    if (std::filesystem::exists(entry.path() / "config.json", error)) {
      folders.push_back(entry.path().string());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace

ExitCode RunDoctor(const config::Options& options) {
  const cell::ExitOnSignal examining;
  ReportMachine();
  std::vector<std::string> folders = options.TextList("folders");
  const std::string backend = "cpu";
  bool all_good = true;
  std::vector<std::string> pair;
  for (const char* name : {"model", "draft-model"}) {
    if (!options.Has(name)) continue;
    const Examined examined = ReportFolder(options.Text(name), backend);
    all_good = all_good && examined.good;
    if (examined.good) pair.push_back(examined.fingerprint);
  }
  if (pair.size() == 2) {
    const bool fits = pair[0] == pair[1];
    Line("pair", fits ? "target and draft have the same vocabulary"
                      : "BAD: target and draft have different vocabularies");
    all_good = all_good && fits;
  }
  for (const std::string& folder : folders) all_good &= ReportFolder(folder, backend).good;
  if (folders.empty() && !options.Has("model") && !options.Has("draft-model")) {
    folders = FoldersUnder("models");
    if (folders.empty()) Line("model", "none under models/ and none named");
    for (const std::string& folder : folders) ReportFolder(folder, backend);
  }
  return all_good ? cell::kExitDone : cell::kExitBadInput;
}

}  // namespace mirrorsd::cli
