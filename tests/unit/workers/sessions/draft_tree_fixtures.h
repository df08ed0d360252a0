#pragma once
// What a draft must say, computed without a tree, a session or anything kept between two tokens but the prefix
// cache: the best next tokens after a path under a request's sampling.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/sampling/sampler.h"

namespace mirrorsd::testing {

class DraftReference {
 public:
  DraftReference(const MicroModelOptions& model, const SamplingParameters& sampling,
                 int32_t prompt_length, const std::string& backend = "cpu")
      : engine_(MakeMicroEngine(model, {.backend = backend})),
        sampling_(sampling),
        prompt_length_(prompt_length),
        sampler_(model.vocabulary_size, 1) {}

  // The eight best after these tokens, best first.
  const std::vector<Candidate>& Ranks(const std::vector<TokenId>& path) {
    const auto [it, is_new] = known_.try_emplace(path);
    if (!is_new) return it->second;
    engine::SequenceCache cache(&engine_->blocks());
    const int32_t begin = cache.Start(path);
    const int32_t length = static_cast<int32_t>(path.size());
    CHECK(cache.Reserve(length));
    const engine::SequenceRows rows{.token_ids = absl::MakeConstSpan(path).subspan(begin),
                                    .begin = begin,
                                    .block_table = cache.block_table(),
                                    .logits_begin = length - begin - 1};
    const auto logits = engine_->Run({rows});
    CHECK(logits.ok()) << logits.status();
    cache.Commit(rows.token_ids);
    engine::SamplingState state(sampling_, {}, prompt_length_);
    state.Append(path);
    const auto ranked = sampler_.Rank(state, logits->Row(0), 64);
    CHECK(ranked.ok()) << ranked.status();
    it->second.assign(ranked->begin(), ranked->begin() + std::min<size_t>(8, ranked->size()));
    return it->second;
  }

  // The draft's own continuation.
  std::vector<TokenId> Continue(std::vector<TokenId> path, size_t depth) {
    const size_t from = path.size();
    for (size_t i = 0; i < depth; ++i) path.push_back(Ranks(path).front().token);
    return {path.begin() + static_cast<int64_t>(from), path.end()};
  }

 private:
  std::unique_ptr<engine::Engine> engine_;
  SamplingParameters sampling_;
  int32_t prompt_length_;
  engine::Sampler sampler_;
  std::map<std::vector<TokenId>, std::vector<Candidate>> known_;
};

}  // namespace mirrorsd::testing
