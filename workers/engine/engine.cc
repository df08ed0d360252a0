#include "workers/engine/engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "common/sha256.h"
#include "workers/engine/backend/backends.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/fingerprint.h"
#include "workers/engine/model/forward_pass.h"
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

std::string NumericsId(const Backend& backend, const ModelWeights& weights) {
  return Sha256Hex(absl::StrCat("pass ", kForwardPassRevision, "; ", backend.numerics(),
                                "; compute f32; kv f32; weights ", weights.type_names,
                                "; tensor-parallel 1"))
      .substr(0, 32);
}

std::string LastComponent(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                                       std::unique_ptr<ModelSource> source) {
  absl::Status checked = CheckOptions(options);
  if (!checked.ok()) return checked;
  if (source == nullptr) source = MakeFolderSource(options.model_dir);
  absl::StatusOr<std::string> config_text = source->ReadConfig();
  if (!config_text.ok()) return config_text.status();
  absl::StatusOr<ModelConfig> config = ReadModelConfig(source->config_path(), *config_text);
  if (!config.ok()) return config.status();
  absl::StatusOr<std::vector<StoredTensor>> stored = source->OpenTensors();
  if (!stored.ok()) return stored.status();
  const Family* family = FindFamily(config->architecture);
  CHECK(family != nullptr);
  absl::StatusOr<std::vector<BoundTensor>> bound =
      BindTensors(source->name(), *family, *config, *stored);
  if (!bound.ok()) return bound.status();

  BackendOptions backend_options;
  backend_options.num_threads = options.num_threads;
  absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(options.backend, backend_options);
  if (!backend.ok()) return backend.status();

  EngineInfo info;
  KvShape kv;
  kv.num_layers = config->num_layers;
  kv.block_tokens = options.block_tokens;
  kv.num_kv_heads = config->num_kv_heads;
  kv.head_dim = config->head_dim;
  info.kv_block_bytes =
      kv.BlockElements() * kv.num_layers * static_cast<int64_t>(sizeof(float));
  absl::StatusOr<int32_t> num_blocks = NumKvBlocks(options, info.kv_block_bytes);
  if (!num_blocks.ok()) return num_blocks.status();
  kv.num_blocks = *num_blocks;

  info.model_name = LastComponent(source->name());
  info.model_fingerprint = ModelFingerprint(*config, *bound);
  info.backend = (*backend)->name();
  info.context_length = config->max_positions;
  if (options.max_context_length > 0) {
    info.context_length = std::min(info.context_length, options.max_context_length);
  }
  info.vocabulary_size = config->vocabulary_size;
  info.num_layers = config->num_layers;
  info.block_tokens = kv.block_tokens;
  info.num_kv_blocks = kv.num_blocks;
  info.max_rows = options.max_rows;
  info.max_logits_rows = options.max_logits_rows > 0 ? options.max_logits_rows : options.max_rows;

  absl::StatusOr<ModelWeights> weights =
      LoadWeights(backend->get(), *config, *bound, source.get(), options.on_load_progress);
  if (!weights.ok()) return weights.status();
  info.weight_bytes = weights->stored_bytes;
  info.numerics_id = NumericsId(**backend, *weights);
  absl::StatusOr<std::unique_ptr<ForwardPass>> pass =
      ForwardPass::Create(backend->get(), *config, *std::move(weights), kv, info.max_rows,
                          info.max_logits_rows);
  if (!pass.ok()) return pass.status();
  info.scratch_bytes = (*pass)->scratch_bytes();
  return std::unique_ptr<Engine>(new Engine(std::move(info), *std::move(config), std::move(source),
                                            *std::move(backend), *std::move(pass)));
}

Engine::Engine(EngineInfo info, ModelConfig config, std::unique_ptr<ModelSource> source,
               std::unique_ptr<Backend> backend, std::unique_ptr<ForwardPass> pass)
    : info_(std::move(info)),
      config_(std::move(config)),
      source_(std::move(source)),
      backend_(std::move(backend)),
      pass_(std::move(pass)),
      blocks_(info_.num_kv_blocks, info_.block_tokens) {
  for (auto* rows : {&token_ids_, &positions_, &slots_}) rows->reserve(info_.max_rows);
  ancestor_offsets_.reserve(info_.max_rows + 1);
  sequences_.reserve(info_.max_rows);
  logits_rows_.reserve(info_.max_logits_rows);
}

Engine::~Engine() = default;

absl::Status Engine::BeginPass(absl::Span<const SequenceRows> sequences) {
  layers_done_ = -1;
  for (auto* rows : {&token_ids_, &positions_, &slots_, &ancestor_slots_, &logits_rows_}) {
    rows->clear();
  }
  ancestor_offsets_.assign(1, 0);
  sequences_.clear();
  for (size_t i = 0; i < sequences.size(); ++i) {
    absl::Status added = AddSequence(sequences[i], static_cast<int32_t>(i));
    if (!added.ok()) return added;
  }
  if (token_ids_.empty()) return InvalidField("sequences", "holds no rows", "at least 1 row");
  BatchView view;
  view.positions = positions_;
  view.slots = slots_;
  view.sequences = sequences_;
  if (!ancestor_slots_.empty()) {
    view.ancestor_offsets = ancestor_offsets_;
    view.ancestor_slots = ancestor_slots_;
  }
  pass_->Begin(token_ids_, view, logits_rows_);
  layers_done_ = 0;
  return absl::OkStatus();
}

absl::Status Engine::AddSequence(const SequenceRows& rows, int32_t index) {
  const std::string field = absl::StrCat("sequences[", index, "]");
  const int64_t count = static_cast<int64_t>(rows.token_ids.size());
  if (count == 0) return InvalidField(field, "holds no rows", "at least 1 row");
  if (static_cast<int64_t>(token_ids_.size()) + count > info_.max_rows) {
    return InvalidField(field, "brings the pass over its rows", absl::StrCat(info_.max_rows, " rows"));
  }
  for (TokenId token : rows.token_ids) {
    if (token < 0 || token >= info_.vocabulary_size) {
      return InvalidField(absl::StrCat(field, ".token_ids"), absl::StrCat("holds ", token),
                          absl::StrCat("0 to ", info_.vocabulary_size - 1));
    }
  }
  if (rows.logits_begin < 0 || rows.logits_begin > count) {
    return InvalidField(absl::StrCat(field, ".logits_begin"), absl::StrCat("is ", rows.logits_begin),
                        absl::StrCat("0 to ", count));
  }
  if (static_cast<int64_t>(logits_rows_.size()) + count - rows.logits_begin > info_.max_logits_rows) {
    return InvalidField(field, "brings the pass over its rows with logits",
                        absl::StrCat(info_.max_logits_rows, " rows"));
  }
  const int32_t first_row = static_cast<int32_t>(token_ids_.size());
  if (rows.tree != nullptr) {
    absl::Status added = AddTree(rows, absl::StrCat(field, ".tree"));
    if (!added.ok()) return added;
  } else {
    if (rows.begin < 0 || rows.begin + count > info_.context_length) {
      return InvalidField(absl::StrCat(field, ".begin"),
                          absl::StrCat("positions ", rows.begin, " to ", rows.begin + count),
                          absl::StrCat("a context of ", info_.context_length));
    }
    absl::Status blocks = CheckBlocks(rows, rows.begin + static_cast<int32_t>(count), field);
    if (!blocks.ok()) return blocks;
    for (int32_t t = 0; t < count; ++t) {
      const int32_t position = rows.begin + t;
      positions_.push_back(position);
      slots_.push_back(rows.block_table[position / info_.block_tokens] * info_.block_tokens +
                       position % info_.block_tokens);
      ancestor_offsets_.push_back(static_cast<int32_t>(ancestor_slots_.size()));
    }
  }
  token_ids_.insert(token_ids_.end(), rows.token_ids.begin(), rows.token_ids.end());
  for (int32_t t = rows.logits_begin; t < count; ++t) logits_rows_.push_back(first_row + t);
  sequences_.push_back({static_cast<int32_t>(count), rows.block_table});
  return absl::OkStatus();
}

absl::Status Engine::AddTree(const SequenceRows& rows, const std::string& field) {
  const TreeRows& tree = *rows.tree;
  const size_t count = rows.token_ids.size();
  if (tree.slots.size() != count || tree.ancestor_offsets.size() != count + 1 ||
      tree.ancestor_offsets[0] != 0 ||
      tree.ancestor_offsets[count] != static_cast<int32_t>(tree.ancestor_slots.size())) {
    return InvalidField(field, "has lists that do not fit its rows", absl::StrCat(count, " rows"));
  }
  absl::Status blocks = CheckBlocks(rows, tree.prefix_length, field);
  if (!blocks.ok()) return blocks;
  const int32_t num_slots = info_.num_kv_blocks * info_.block_tokens;
  for (int32_t slot : tree.ancestor_slots) {
    if (slot < 0 || slot >= num_slots) {
      return InvalidField(field, absl::StrCat("names the slot ", slot), absl::StrCat("0 to ", num_slots - 1));
    }
  }
  for (size_t t = 0; t < count; ++t) {
    const int32_t begin = tree.ancestor_offsets[t], end = tree.ancestor_offsets[t + 1];
    if (begin >= end || end > static_cast<int64_t>(tree.ancestor_slots.size()) ||
        tree.ancestor_slots[end - 1] != tree.slots[t]) {
      return InvalidField(field, absl::StrCat("row ", t, " does not end its own ancestors"),
                          "each row's list ends with its own slot");
    }
    const int64_t position = int64_t{tree.prefix_length} + (end - begin) - 1;
    if (position >= info_.context_length) {
      return InvalidField(field, absl::StrCat("reaches position ", position),
                          absl::StrCat("a context of ", info_.context_length));
    }
    positions_.push_back(static_cast<int32_t>(position));
    slots_.push_back(tree.slots[t]);
    ancestor_slots_.insert(ancestor_slots_.end(), tree.ancestor_slots.begin() + begin,
                           tree.ancestor_slots.begin() + end);
    ancestor_offsets_.push_back(static_cast<int32_t>(ancestor_slots_.size()));
  }
  return absl::OkStatus();
}

absl::Status Engine::CheckBlocks(const SequenceRows& rows, int32_t num_positions,
                                 const std::string& field) const {
  const int64_t needed = (int64_t{num_positions} + info_.block_tokens - 1) / info_.block_tokens;
  if (num_positions < 0 || static_cast<int64_t>(rows.block_table.size()) < needed) {
    return InvalidField(absl::StrCat(field, ".block_table"),
                        absl::StrCat("has ", rows.block_table.size(), " blocks for ", num_positions,
                                     " positions"),
                        absl::StrCat(needed, " blocks"));
  }
  for (BlockId block : rows.block_table.subspan(0, needed)) {
    if (block < 0 || block >= info_.num_kv_blocks) {
      return InvalidField(absl::StrCat(field, ".block_table"), absl::StrCat("holds ", block),
                          absl::StrCat("0 to ", info_.num_kv_blocks - 1));
    }
  }
  return absl::OkStatus();
}

void Engine::RunLayers(int32_t begin, int32_t end) {
  CHECK(layers_done_ >= 0) << "no pass is begun";
  CHECK(begin == layers_done_ && begin <= end && end <= info_.num_layers)
      << "[" << begin << ", " << end << ") after " << layers_done_;
  pass_->RunLayers(begin, end);
  layers_done_ = end;
}

absl::StatusOr<Logits> Engine::Head() {
  CHECK(layers_done_ >= 0) << "no pass is begun";
  absl::StatusOr<absl::Span<float>> logits = pass_->Head();
  if (!logits.ok()) {
    layers_done_ = -1;
    return logits.status();
  }
  return Logits{logits->data(), static_cast<int32_t>(logits_rows_.size()), info_.vocabulary_size};
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
