#pragma once
// One loaded model on one backend: its weights, its KV memory and its forward pass, cut into pieces so
// that a caller can report an early exit between two layers. Sessions (workers/verifier, workers/draft)
// are its users; it knows no sequence, no sampling and no message: what a row is, who calls.
//
// A pass:  BeginPass(sequences)  ->  RunLayers(0, e)  ->  [Head()]  ->  RunLayers(e, L)  ->  Head()
// KV of the rows is written in place, into the block tables that the caller hands over. Rows whose
// tokens turn out wrong are simply written again: nothing here remembers lengths.
//
// Thread rule: one thread uses an engine (it has a thread pool of its own inside). Bits: a row's result
// depends on its tokens and positions alone, never on what else is in the pass (DESIGN, Numerics).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/kv_cache/block_pool.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/model_config.h"
#include "workers/engine/model/twins/twin_spec.h"
#include "workers/engine/pass_rows.h"
#include "workers/engine/step_hook.h"

namespace mirrorsd::engine {

class ForwardPass;  // workers/engine/model/forward_pass.h

struct EngineOptions {
  std::string model_dir;         // a Hugging Face folder; unused where there is a twin or a source
  std::optional<TwinModel> twin; // made in memory instead of read
  std::string backend = "cpu";   // a name of backends.cc: "cpu", "naive", ...
  int32_t num_threads = 0;       // of this engine's pool, the caller included; 0: the machine's
  int32_t block_tokens = 16;     // tokens of one KV block; a multiple of 16
  int32_t num_kv_blocks = 0;     // 0: as many as kv_bytes holds
  int64_t kv_bytes = int64_t{512} << 20;
  int32_t max_rows = 256;        // rows of one pass
  int32_t max_logits_rows = 0;   // rows of one Head(); 0: max_rows
  int32_t max_context_length = 0;  // 0: the model's own
  std::function<void(const LoadProgress&)> on_load_progress;  // from the loading thread
  std::shared_ptr<StepHook> step_hook;  // told of every step of every pass; null: nobody
};

struct EngineInfo {
  std::string model_name;          // for people
  std::string model_fingerprint;   // config, tensor table and sampled contents; hex
  std::string numerics_id;         // equal ids: equal bits
  std::string backend;
  int32_t context_length = 0;      // positions are [0, context_length)
  int32_t vocabulary_size = 0;     // token ids are [0, vocabulary_size)
  int32_t num_layers = 0;
  int32_t early_exit_layer = 0;    // that config.json names; 0: none
  int32_t block_tokens = 0;
  int32_t num_kv_blocks = 0;
  int32_t max_rows = 0;
  int32_t max_logits_rows = 0;
  int64_t kv_block_bytes = 0;      // one block, all layers, keys and values
  int64_t weight_bytes = 0;        // as stored
  int64_t scratch_bytes = 0;
};

// Logits on the host. Row r belongs to the r-th row that asked for logits, in the order of the pass. The
// memory is the engine's and is good until the next call; a sampler may process rows in place.
struct Logits {
  float* data = nullptr;  // [num_rows, vocabulary_size]
  int32_t num_rows = 0;
  int32_t vocabulary_size = 0;

  absl::Span<float> Row(int32_t r) const {
    return {data + static_cast<int64_t>(r) * vocabulary_size, static_cast<size_t>(vocabulary_size)};
  }
};

class Engine {
 public:
  // Loads the model. `source` overrides options.twin, and that options.model_dir.
  // Errors: BAD_FILE / MISSING_FILE naming file, tensor and limit; INVALID_FIELD for an option;
  //         RESOURCE_EXHAUSTED where KV or scratch memory is not to be had.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, std::unique_ptr<ModelSource> source = nullptr);
  ~Engine();

  const EngineInfo& info() const { return info_; }
  const ModelConfig& config() const { return config_; }

  // The ids of this engine's KV blocks: who owns which. The session allocates and releases; the engine
  // only reads ids from the block tables of a pass.
  BlockPool& blocks() { return blocks_; }

  // Takes the rows of a pass and computes their embeddings. The spans may go when it returns. Anything
  // begun before is forgotten.
  // Errors: INVALID_FIELD for no or too many rows, a token id or position out of range, a block table
  //         that is too short or names an unknown block; then nothing was begun.
  absl::Status BeginPass(absl::Span<const SequenceRows> sequences);

  // Runs layers [begin, end) over the rows of the pass. Layers run in order, each once: begin is where
  // the last call ended (CHECK), end <= num_layers.
  void RunLayers(int32_t begin, int32_t end);

  // Final norm and LM head after the layers that have run, for the rows that asked for logits; the pass
  // can go on afterwards. May be called after any layer; num_rows is 0 where no row asked.
  // Errors: what the device failed at since BeginPass; the pass is void then. NaN is for the sampler to find.
  absl::StatusOr<Logits> Head();

  // The same for some of those rows alone: `rows` are indices among the rows that asked for logits, which
  // is how Head() numbers them. A row has the bits that Head() would give it.
  // Shapes: rows[R], each in [0, rows that asked) (CHECK); row r of the result is that of rows[r]
  absl::StatusOr<Logits> Head(absl::Span<const int32_t> rows);

  // All of it: BeginPass, all layers, Head.
  absl::StatusOr<Logits> Run(absl::Span<const SequenceRows> sequences);

  // Copies the KV of single tokens from slot to slot in all layers, in order (promotion of a branch).
  // Errors: INVALID_FIELD for a slot that does not exist; then nothing was copied.
  absl::Status CopyKv(absl::Span<const SlotCopy> copies);

 private:
  Engine(EngineInfo info, ModelConfig config, std::unique_ptr<ModelSource> source,
         std::unique_ptr<Backend> backend, std::unique_ptr<ForwardPass> pass,
         std::shared_ptr<StepHook> step_hook);

  absl::StatusOr<Logits> HeadOf(absl::Span<const int32_t> pass_rows);

  EngineInfo info_;
  ModelConfig config_;
  std::unique_ptr<ModelSource> source_;  // owns the mapped weights
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ForwardPass> pass_;    // refers to backend_ and to the weights
  BlockPool blocks_;
  std::shared_ptr<StepHook> step_hook_;

  PassRows rows_;
  int32_t layers_done_ = -1;  // -1: no pass is begun
  std::vector<int32_t> head_rows_;  // of the pass; scratch of Head
};

}  // namespace mirrorsd::engine
