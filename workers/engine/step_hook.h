#pragma once
// What an engine tells of the steps of a pass, as it does them: somebody may measure them, or make them last
// as long as another device's would (workers/pacing). Not a way to change what is computed: a hook sees
// counts and layer numbers, no tensor. Called from the engine's thread alone, and it may block there.
//
//   OnPassBegin   (embedding, layers [0, e))  OnLayers   [(head)  OnHead   (layers [e, L))  OnLayers]   ...

#include <cstdint>

namespace mirrorsd::engine {

struct PassShape {
  int32_t num_rows = 0;         // of all sequences
  int32_t num_logits_rows = 0;  // of them, those that the final head computes
  int64_t num_kv_tokens = 0;    // whose keys and values a layer reads, each sequence's counted once
  int32_t num_layers = 0;       // of the model
};

class StepHook {
 public:
  virtual ~StepHook() = default;
  // Before anything is computed; a pass that was refused is not told. A pass may end anywhere: what comes next
  // is then another OnPassBegin.
  virtual void OnPassBegin(const PassShape& shape) = 0;
  // Each after its step was computed.
  virtual void OnLayers(int32_t begin, int32_t end) = 0;  // as Engine::RunLayers
  // `layers_done` == num_layers: the final one. `num_rows` of the logits rows: all, or those asked for.
  virtual void OnHead(int32_t layers_done, int32_t num_rows) = 0;
};

}  // namespace mirrorsd::engine
