#pragma once
// Engines over micro models, and requests to run on them.

#include <memory>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/noise.h"
#include "tests/support/local_cell.h"
#include "tests/support/micro_model.h"
#include "workers/engine/engine.h"

namespace mirrorsd::testing {

inline std::unique_ptr<engine::Engine> MakeMicroEngine(const MicroModelOptions& model,
                                                       engine::EngineOptions options = {}) {
  options.num_threads = 1;
  if (options.num_kv_blocks == 0) options.num_kv_blocks = 512;
  options.max_rows = std::max(options.max_rows, 1024);
  auto engine = engine::Engine::Create(options, MakeMicroModel(model));
  CHECK(engine.ok()) << engine.status().ToString();
  return std::move(*engine);
}

// The i-th prompt: tokens from the counter noise, 3 to 42 of them.
inline std::vector<TokenId> MakePrompt(size_t i, int32_t vocabulary_size) {
  std::vector<TokenId> prompt;
  const size_t length = 3 + (i * 13) % 40;
  for (size_t t = 0; t < length; ++t) {
    const PhiloxBlock words = NoiseWords({.seed = 77, .position = static_cast<uint32_t>(i)},
                                         static_cast<uint32_t>(t));
    prompt.push_back(static_cast<TokenId>(words.word[0] % vocabulary_size));
  }
  return prompt;
}

inline CellRequest MakeRequest(size_t i, const SamplingParameters& sampling,
                               int32_t vocabulary_size, int32_t max_tokens) {
  CellRequest request{.prompt = MakePrompt(i, vocabulary_size),
                      .sampling = sampling,
                      .max_tokens = max_tokens};
  request.sampling.seed = 1000 + i;
  return request;
}

}  // namespace mirrorsd::testing
