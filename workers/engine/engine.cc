#include "workers/engine/engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "common/sha256.h"
#include "workers/engine/backend/backends.h"
#include "workers/engine/model/fingerprint.h"
#include "workers/engine/model/forward_pass.h"
#include "workers/engine/model/opened_model.h"
#include "workers/engine/model/twins/twin_source.h"
#include "workers/engine/model/weights.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kMaxRows = 1 << 16;
constexpr int32_t kMaxBlockTokens = 1 << 10;

absl::Status CheckOption(absl::string_view name, int64_t value, int64_t lowest, int64_t highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return InvalidField(name, absl::StrCat("is ", value), absl::StrCat(lowest, " to ", highest));
}

absl::Status CheckOptions(const EngineOptions& options) {
  constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
  for (const absl::Status& status : {
           CheckOption("max_rows", options.max_rows, 1, kMaxRows),
           CheckOption("max_logits_rows", options.max_logits_rows, 0, options.max_rows),
           CheckOption("block_tokens", options.block_tokens, 16, kMaxBlockTokens),
           CheckOption("num_kv_blocks", options.num_kv_blocks, 0, kInt32Max / kMaxBlockTokens),
           CheckOption("max_context_length", options.max_context_length, 0, kInt32Max),
       }) {
    if (!status.ok()) return status;
  }
  if (options.block_tokens % 16 != 0) {
    return InvalidField("block_tokens", absl::StrCat("is ", options.block_tokens), "a multiple of 16");
  }
  return absl::OkStatus();
}

// How many blocks the options give. Errors: INVALID_FIELD where not even one fits.
absl::StatusOr<int32_t> NumKvBlocks(const EngineOptions& options, int64_t block_bytes) {
  if (options.num_kv_blocks > 0) return options.num_kv_blocks;
  const int64_t most = std::numeric_limits<int32_t>::max() / options.block_tokens;
  const int64_t blocks = std::min(options.kv_bytes / block_bytes, most);
  if (blocks >= 1) return static_cast<int32_t>(blocks);
  return InvalidField("kv_bytes", absl::StrCat("is ", options.kv_bytes, ", too little for one block"),
                      absl::StrCat("at least ", block_bytes, " bytes"));
}

std::string NumericsId(const Backend& backend, const OpenedModel& model) {
  return Sha256Hex(absl::StrCat("pass ", kForwardPassRevision, "; ", backend.numerics(),
                                "; compute f32; kv f32; weights ", model.type_names,
                                "; tensor-parallel 1"))
      .substr(0, 32);
}

std::string LastComponent(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// Committed tokens and rows of each sequence: what a layer's attention reads. Several parts of one sequence,
// one after the other, read what is before them once.
int64_t NumKvTokens(absl::Span<const SequenceRows> sequences) {
  int64_t num_tokens = 0, num_read = 0;
  const BlockId* table = nullptr;
  for (const SequenceRows& rows : sequences) {
    if (rows.block_table.data() != table || table == nullptr) num_read = 0;
    table = rows.block_table.data();
    const int64_t prefix = rows.tree != nullptr ? rows.tree->prefix_length : rows.begin;
    const int64_t more = std::max<int64_t>(0, prefix - num_read) +
                         static_cast<int64_t>(rows.token_ids.size());
    num_tokens += more;
    num_read += more;
  }
  return num_tokens;
}

// What model and options say by themselves.
EngineInfo DescribeModel(const OpenedModel& model, const EngineOptions& options) {
  EngineInfo info;
  info.model_name = LastComponent(model.source->name());
  info.model_fingerprint = ModelFingerprint(model);
  info.context_length = model.config.max_positions;
  if (options.max_context_length > 0) {
    info.context_length = std::min(info.context_length, options.max_context_length);
  }
  info.vocabulary_size = model.config.vocabulary_size;
  info.num_layers = model.config.num_layers;
  info.early_exit_layer = model.config.early_exit_layer;
  info.block_tokens = options.block_tokens;
  info.max_rows = options.max_rows;
  info.max_logits_rows = options.max_logits_rows > 0 ? options.max_logits_rows : options.max_rows;
  info.weight_bytes = model.stored_bytes;
  return info;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       std::unique_ptr<ModelSource> source) {
  absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  if (source == nullptr && options.twin.has_value()) {
    source = MakeTwinSource(*options.twin, {.num_threads = options.num_threads,
                                            .on_progress = options.on_load_progress});
  }
  if (source == nullptr) source = MakeFolderSource(options.model_dir);
  absl::StatusOr<OpenedModel> model = OpenModel(std::move(source));
  if (!model.ok()) return model.status();
  const ModelConfig config = model->config;

  BackendOptions backend_options;
  backend_options.num_threads = options.num_threads;
  absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(options.backend, backend_options);
  if (!backend.ok()) return backend.status();

  KvShape kv;
  kv.num_layers = config.num_layers;
  kv.block_tokens = options.block_tokens;
  kv.num_kv_heads = config.num_kv_heads;
  kv.head_dim = config.head_dim;
  const int64_t block_bytes =
      kv.BlockElements() * kv.num_layers * static_cast<int64_t>(sizeof(float));
  absl::StatusOr<int32_t> num_blocks = NumKvBlocks(options, block_bytes);
  if (!num_blocks.ok()) return num_blocks.status();
  kv.num_blocks = *num_blocks;

  EngineInfo info = DescribeModel(*model, options);
  info.backend = (*backend)->name();
  info.numerics_id = NumericsId(**backend, *model);
  info.num_kv_blocks = kv.num_blocks;
  info.kv_block_bytes = block_bytes;

  absl::StatusOr<ModelWeights> weights =
      LoadWeights(backend->get(), &*model, options.on_load_progress);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<std::unique_ptr<ForwardPass>> pass =
      ForwardPass::Create(backend->get(), config, *std::move(weights), kv, info.max_rows,
                          info.max_logits_rows);
  if (!pass.ok()) return pass.status();
  info.scratch_bytes = (*pass)->scratch_bytes();
  return std::unique_ptr<Engine>(new Engine(std::move(info), config, std::move(model->source),
                                            *std::move(backend), *std::move(pass),
                                            options.step_hook));
}

Engine::Engine(EngineInfo info, ModelConfig config, std::unique_ptr<ModelSource> source,
               std::unique_ptr<Backend> backend, std::unique_ptr<ForwardPass> pass,
               std::shared_ptr<StepHook> step_hook)
    : info_(std::move(info)),
      config_(std::move(config)),
      source_(std::move(source)),
      backend_(std::move(backend)),
      pass_(std::move(pass)),
      blocks_(info_.num_kv_blocks, info_.block_tokens),
      step_hook_(std::move(step_hook)),
      rows_({info_.max_rows, info_.max_logits_rows, info_.vocabulary_size, info_.context_length,
             info_.num_kv_blocks, info_.block_tokens}) {}

Engine::~Engine() = default;

absl::Status Engine::BeginPass(absl::Span<const SequenceRows> sequences) {
  layers_done_ = -1;
  absl::Status gathered = rows_.Gather(sequences);
  if (!gathered.ok()) return gathered;
  if (step_hook_ != nullptr) {
    step_hook_->OnPassBegin({.num_rows = static_cast<int32_t>(rows_.token_ids().size()),
                             .num_logits_rows = static_cast<int32_t>(rows_.logits_rows().size()),
                             .num_kv_tokens = NumKvTokens(sequences),
                             .num_layers = info_.num_layers});
  }
  pass_->Begin(rows_.token_ids(), rows_.view());
  layers_done_ = 0;
  return absl::OkStatus();
}

void Engine::RunLayers(int32_t begin, int32_t end) {
  CHECK(layers_done_ >= 0) << "no pass is begun";
  CHECK(begin == layers_done_ && begin <= end && end <= info_.num_layers)
      << "[" << begin << ", " << end << ") after " << layers_done_;
  pass_->RunLayers(begin, end);
  if (step_hook_ != nullptr) step_hook_->OnLayers(begin, end);
  layers_done_ = end;
}

absl::StatusOr<Logits> Engine::Head() { return HeadOf(rows_.logits_rows()); }

absl::StatusOr<Logits> Engine::Head(absl::Span<const int32_t> rows) {
  const absl::Span<const int32_t> all = rows_.logits_rows();
  head_rows_.clear();
  for (const int32_t row : rows) {
    CHECK(row >= 0 && static_cast<size_t>(row) < all.size()) << row << " of " << all.size();
    head_rows_.push_back(all[row]);
  }
  return HeadOf(head_rows_);
}

absl::StatusOr<Logits> Engine::HeadOf(absl::Span<const int32_t> pass_rows) {
  CHECK(layers_done_ >= 0) << "no pass is begun";
  absl::StatusOr<absl::Span<float>> logits = pass_->Head(pass_rows);
  if (!logits.ok()) {
    layers_done_ = -1;
    return logits.status();
  }
  const int32_t num_rows = static_cast<int32_t>(pass_rows.size());
  if (step_hook_ != nullptr) step_hook_->OnHead(layers_done_, num_rows);
  return Logits{logits->data(), num_rows, info_.vocabulary_size};
}

absl::StatusOr<Logits> Engine::Run(absl::Span<const SequenceRows> sequences) {
  absl::Status begun = BeginPass(sequences);
  if (!begun.ok()) return begun;
  RunLayers(0, info_.num_layers);
  return Head();
}

absl::Status Engine::CopyKv(absl::Span<const SlotCopy> copies) {
  const int32_t num_slots = info_.num_kv_blocks * info_.block_tokens;
  for (const SlotCopy& copy : copies) {
    if (std::min(copy.from, copy.to) < 0 || std::max(copy.from, copy.to) >= num_slots) {
      return InvalidField("copies", absl::StrCat("slot ", copy.from, " to ", copy.to),
                          absl::StrCat("0 to ", num_slots - 1));
    }
  }
  pass_->CopyKv(copies);
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
