#pragma once
// Writes a twin's target as a GGUF file of version 3, so that other engines (llama.cpp and what builds on it) can run
// the same weights: metadata, the byte-level vocabulary, tensors in bf16 or f32 with vectors in f32. Llama-family
// models with plain RoPE only. Blocks on the disk.
//
// GGUF rotates neighbouring elements of a head where Hugging Face's layout rotates halves, so rows of the query and
// key projections are reordered: row 2 i + j of a head is row i + j * D / 2 of ours.
// Source: gguf.md of ggml; convert_hf_to_gguf.py of llama.cpp

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

// Errors: those of CheckTwin; INVALID_FIELD for a model that GGUF's llama cannot say (scaled RoPE, biases), for a file
//         that is there without `force`; BAD_FILE where it cannot be written
absl::Status WriteTwinGguf(const TwinModel& model, const std::string& path, bool force,
                           const std::function<void(const LoadProgress&)>& on_progress);

}  // namespace mirrorsd::engine
