#include "workers/measure/teacher_forcing.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::measure {
namespace {

using engine::Engine;
using engine::SequenceCache;
using engine::SequenceRows;

// One live stream: its tokens and its KV in both models.
struct Stream {
  size_t prompt = 0;
  std::vector<TokenId> tokens;
  int32_t prompt_length = 0;
  int32_t computed = 0;  // tokens whose KV is there
  SequenceCache target;
  SequenceCache draft;
};

class Forcing {
 public:
  Forcing(const ForcedModels& models, const RowSink& sink) : models_(models), sink_(sink) {}

  absl::Status Add(size_t index, const std::vector<TokenId>& prompt, int32_t max_tokens) {
    const int32_t length = static_cast<int32_t>(prompt.size()) + max_tokens;
    Stream stream{index, prompt, static_cast<int32_t>(prompt.size()), 0,
                  SequenceCache(&models_.target->blocks()),
                  SequenceCache(&(models_.draft != nullptr ? models_.draft : models_.target)->blocks())};
    if (absl::Status checked = Check(prompt, length); !checked.ok()) return checked;
    const bool fits = stream.target.Reserve(length) &&
                      (models_.draft == nullptr || stream.draft.Reserve(length));
    if (!fits) {
      return InvalidField("batch", "needs more KV than there is",
                          absl::StrCat(models_.target->info().num_kv_blocks, " blocks of the target"));
    }
    live_.push_back(std::move(stream));
    return absl::OkStatus();
  }

  // Everything of the prompts but their last tokens.
  absl::Status Prefill() {
    const int32_t most = MaxRows();
    for (Stream& stream : live_) {
      const int32_t end = stream.prompt_length - 1;
      for (int32_t begin = 0; begin < end; begin += most) {
        const int32_t size = std::min(most, end - begin);
        for (Engine* engine : {models_.target, models_.draft}) {
          if (engine == nullptr) continue;
          SequenceRows rows = RowsOf(stream, engine, begin, size);
          rows.logits_begin = size;
          if (absl::Status begun = engine->BeginPass({rows}); !begun.ok()) return begun;
          engine->RunLayers(0, engine->info().num_layers);
        }
      }
      stream.computed = std::max(end, 0);
    }
    return absl::OkStatus();
  }

  // One token of every live stream. Ended streams are taken out.
  absl::Status Step(int32_t max_tokens, std::vector<std::vector<TokenId>>* outputs) {
    for (size_t begin = 0; begin < live_.size();) {
      const size_t end = std::min(live_.size(), begin + static_cast<size_t>(MaxRows()));
      if (absl::Status stepped = StepSome(begin, end); !stepped.ok()) return stepped;
      begin = end;
    }
    for (Stream& stream : live_) {
      const int32_t length = static_cast<int32_t>(stream.tokens.size()) - stream.prompt_length;
      const bool ended = next_[stream.prompt] < 0 || length == max_tokens;
      if (!ended) continue;
      (*outputs)[stream.prompt].assign(stream.tokens.begin() + stream.prompt_length,
                                       stream.tokens.end());
      stream.prompt_length = 0;  // over
    }
    live_.erase(std::remove_if(live_.begin(), live_.end(),
                               [](const Stream& stream) { return stream.prompt_length == 0; }),
                live_.end());
    return absl::OkStatus();
  }

  bool any() const { return !live_.empty(); }
  void Expect(size_t num_prompts) { next_.assign(num_prompts, -1); }

 private:
  int32_t MaxRows() const {
    int32_t most = std::min(models_.target->info().max_rows, models_.target->info().max_logits_rows);
    if (models_.draft != nullptr) {
      most = std::min({most, models_.draft->info().max_rows, models_.draft->info().max_logits_rows});
    }
    return most;
  }

  absl::Status Check(const std::vector<TokenId>& prompt, int32_t length) const {
    for (const Engine* engine : {models_.target, models_.draft}) {
      if (engine == nullptr) continue;
      const engine::EngineInfo& info = engine->info();
      if (prompt.empty() || length > info.context_length) {
        return InvalidField("prompt", absl::StrCat("has ", prompt.size(), " tokens, ", length,
                                                   " with the output"),
                            absl::StrCat("1 to ", info.context_length, ", the context of ", info.model_name));
      }
      for (const TokenId token : prompt) {
        if (token < 0 || token >= info.vocabulary_size) {
          return InvalidField("prompt", absl::StrCat("holds the token ", token),
                              absl::StrCat("0 to ", info.vocabulary_size - 1, " of ", info.model_name));
        }
      }
    }
    return absl::OkStatus();
  }

  SequenceRows RowsOf(const Stream& stream, const Engine* engine, int32_t begin, int32_t size) const {
    SequenceRows rows;
    rows.token_ids = absl::MakeConstSpan(stream.tokens).subspan(begin, size);
    rows.begin = begin;
    rows.block_table =
        engine == models_.target ? stream.target.block_table() : stream.draft.block_table();
    return rows;
  }

  absl::Status Show(Engine* engine, RowOf of, size_t begin, size_t end) {
    absl::StatusOr<engine::Logits> logits = engine->Head();
    if (!logits.ok()) return logits.status();
    for (size_t i = begin; i < end; ++i) {
      const Stream& stream = live_[i];
      const absl::StatusOr<TokenId> token =
          sink_({stream.prompt, static_cast<int32_t>(stream.tokens.size()) - stream.prompt_length, of,
                 logits->Row(static_cast<int32_t>(i - begin))});
      if (!token.ok()) return token.status();
      if (of == RowOf::kTarget) next_[stream.prompt] = *token;
    }
    return absl::OkStatus();
  }

  absl::Status Begin(Engine* engine, size_t begin, size_t end) {
    std::vector<SequenceRows> rows;
    for (size_t i = begin; i < end; ++i) {
      rows.push_back(RowsOf(live_[i], engine, live_[i].computed,
                            static_cast<int32_t>(live_[i].tokens.size()) - live_[i].computed));
    }
    return engine->BeginPass(rows);
  }

  absl::Status StepSome(size_t begin, size_t end) {
    if (models_.draft != nullptr) {
      if (absl::Status begun = Begin(models_.draft, begin, end); !begun.ok()) return begun;
      models_.draft->RunLayers(0, models_.draft->info().num_layers);
      absl::Status shown = Show(models_.draft, RowOf::kDraft, begin, end);
      if (!shown.ok()) return shown;
    }
    Engine* const target = models_.target;
    if (absl::Status begun = Begin(target, begin, end); !begun.ok()) return begun;
    std::vector<std::pair<int32_t, RowOf>> cuts = {{models_.exit_layer, RowOf::kExit},
                                                   {target->info().num_layers, RowOf::kTarget}};
    if (models_.draft == nullptr) cuts.insert(cuts.begin(), {models_.draft_layers, RowOf::kDraft});
    std::stable_sort(cuts.begin(), cuts.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    int32_t done = 0;
    for (const auto& [layer, of] : cuts) {
      target->RunLayers(done, layer);
      done = layer;
      if (absl::Status shown = Show(target, of, begin, end); !shown.ok()) return shown;
    }
    for (size_t i = begin; i < end; ++i) {
      Stream& stream = live_[i];
      stream.computed = static_cast<int32_t>(stream.tokens.size());
      if (next_[stream.prompt] >= 0) stream.tokens.push_back(next_[stream.prompt]);
    }
    return absl::OkStatus();
  }

  const ForcedModels& models_;
  const RowSink& sink_;
  std::vector<Stream> live_;
  std::vector<TokenId> next_;  // [prompt]
};

}  // namespace

absl::StatusOr<std::vector<std::vector<TokenId>>> ForceStreams(
    const ForcedModels& models, absl::Span<const std::vector<TokenId>> prompts, int32_t max_tokens,
    int32_t batch, const RowSink& sink) {
  CHECK(models.target != nullptr && max_tokens >= 1 && batch >= 1);
  const int32_t num_layers = models.target->info().num_layers;
  if (models.exit_layer < 1 || models.exit_layer > num_layers) {
    return InvalidField("early-exit-layer", absl::StrCat("is ", models.exit_layer),
                        absl::StrCat("1 to ", num_layers, ", the target's layers"));
  }
  if (models.draft == nullptr && (models.draft_layers < 1 || models.draft_layers > num_layers)) {
    return InvalidField("draft-layers", absl::StrCat("is ", models.draft_layers),
                        absl::StrCat("1 to ", num_layers, ", the target's layers"));
  }
  std::vector<std::vector<TokenId>> outputs(prompts.size());
  for (size_t first = 0; first < prompts.size(); first += static_cast<size_t>(batch)) {
    Forcing forcing(models, sink);
    forcing.Expect(prompts.size());
    const size_t last = std::min(prompts.size(), first + static_cast<size_t>(batch));
    for (size_t i = first; i < last; ++i) {
      if (absl::Status added = forcing.Add(i, prompts[i], max_tokens); !added.ok()) return added;
    }
    if (absl::Status done = forcing.Prefill(); !done.ok()) return done;
    while (forcing.any()) {
      if (absl::Status stepped = forcing.Step(max_tokens, &outputs); !stepped.ok()) return stepped;
    }
  }
  return outputs;
}

}  // namespace mirrorsd::measure
