#include "workers/measure/pass_times.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::measure {
namespace {

constexpr int kWarmUps = 2;

int64_t Median(std::vector<int64_t> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Stopwatch {
 public:
  explicit Stopwatch(engine::Clock* clock) : clock_(clock), from_ns_(clock->NowNs()) {}
  int64_t Lap() {
    const int64_t now_ns = clock_->NowNs();
    return now_ns - std::exchange(from_ns_, now_ns);
  }

 private:
  engine::Clock* clock_;
  int64_t from_ns_;
};

}  // namespace

int64_t PassTimes::PrefixNs(int32_t early_exit_layer) const {
  return std::accumulate(layers_ns.begin(), layers_ns.begin() + early_exit_layer, begin_ns);
}

int64_t PassTimes::SuffixNs(int32_t early_exit_layer) const {
  return std::accumulate(layers_ns.begin() + early_exit_layer, layers_ns.end(), final_head_ns);
}

namespace {

// Sequences with `context` tokens of KV each, and their next rows.
struct Scratch {
  std::vector<TokenId> tokens;
  std::vector<engine::SequenceCache> caches;
  std::vector<engine::SequenceRows> rows;
};

absl::Status Prepare(engine::Engine* engine, const PassShapeWanted& wanted, Scratch* scratch) {
  const engine::EngineInfo& info = engine->info();
  scratch->tokens.assign(static_cast<size_t>(std::max(wanted.context, wanted.rows)), 0);
  const absl::Span<const TokenId> tokens = scratch->tokens;
  for (int32_t i = 0; i < wanted.sequences; ++i) {
    if (!scratch->caches.emplace_back(&engine->blocks()).Reserve(wanted.context + wanted.rows)) {
      return InvalidField("batch", "needs more KV than there is",
                          absl::StrCat(info.num_kv_blocks, " blocks"));
    }
  }
  for (const engine::SequenceCache& cache : scratch->caches) {
    for (int32_t begin = 0; begin < wanted.context; begin += info.max_rows) {
      const int32_t size = std::min(info.max_rows, wanted.context - begin);
      const auto run = engine->Run({{.token_ids = tokens.subspan(0, size),
                                     .begin = begin,
                                     .block_table = cache.block_table(),
                                     .logits_begin = size}});
      if (!run.ok()) return run.status();
    }
    scratch->rows.push_back({.token_ids = tokens.subspan(0, wanted.rows),
                             .begin = wanted.context,
                             .block_table = cache.block_table()});
  }
  return absl::OkStatus();
}

// One pass, layer by layer, with an exit in its middle.
absl::StatusOr<PassTimes> TimePass(engine::Engine* engine, engine::Clock* clock,
                                   absl::Span<const engine::SequenceRows> rows) {
  const int32_t num_layers = engine->info().num_layers;
  PassTimes times;
  Stopwatch watch(clock);
  if (absl::Status begun = engine->BeginPass(rows); !begun.ok()) return begun;
  times.begin_ns = watch.Lap();
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    engine->RunLayers(layer, layer + 1);
    times.layers_ns.push_back(watch.Lap());
    if (layer + 1 != num_layers / 2) continue;
    if (const auto exit = engine->Head(); !exit.ok()) return exit.status();
    times.exit_head_ns = watch.Lap();
  }
  if (const auto last = engine->Head(); !last.ok()) return last.status();
  times.final_head_ns = watch.Lap();
  return times;
}

}  // namespace

absl::StatusOr<PassTimes> MeasurePassTimes(engine::Engine* engine, engine::Clock* clock,
                                           const PassShapeWanted& wanted) {
  const engine::EngineInfo& info = engine->info();
  const int64_t num_rows = int64_t{wanted.sequences} * wanted.rows;
  const int32_t most = std::min(info.max_rows, info.max_logits_rows);
  if (num_rows < 1 || num_rows > most) {
    return InvalidField("rows", absl::StrCat(num_rows, " of a pass"), absl::StrCat("1 to ", most));
  }
  if (wanted.context + wanted.rows > info.context_length) {
    return InvalidField("context", absl::StrCat(wanted.context + wanted.rows, " tokens"),
                        absl::StrCat(info.context_length, " tokens"));
  }
  Scratch scratch;
  if (absl::Status prepared = Prepare(engine, wanted, &scratch); !prepared.ok()) return prepared;
  std::vector<PassTimes> passes;
  for (int repeat = 0; repeat < kWarmUps + wanted.repeats; ++repeat) {
    absl::StatusOr<PassTimes> times = TimePass(engine, clock, scratch.rows);
    if (!times.ok()) return times.status();
    if (repeat >= kWarmUps) passes.push_back(*std::move(times));
  }
  const auto median = [&passes](auto piece) {
    std::vector<int64_t> values;
    for (const PassTimes& pass : passes) values.push_back(piece(pass));
    return Median(std::move(values));
  };
  PassTimes times;
  times.begin_ns = median([](const PassTimes& pass) { return pass.begin_ns; });
  times.exit_head_ns = median([](const PassTimes& pass) { return pass.exit_head_ns; });
  times.final_head_ns = median([](const PassTimes& pass) { return pass.final_head_ns; });
  for (int32_t layer = 0; layer < info.num_layers; ++layer) {
    times.layers_ns.push_back(median([layer](const PassTimes& pass) { return pass.layers_ns[layer]; }));
  }
  return times;
}

}  // namespace mirrorsd::measure
