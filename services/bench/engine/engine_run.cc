#include "services/bench/engine/engine_run.h"

#include <algorithm>

#include "absl/status/status.h"
#include "common/error.h"
#include "services/bench/machine.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/tensor/clock.h"

namespace mirrorsd::bench {
namespace {

double SecondsSince(int64_t start_ns) {
  return static_cast<double>(engine::MonotonicClock().NowNs() - start_ns) * 1e-9;
}

// One sequence of arbitrary tokens that is long enough for every step.
class Bench {
 public:
  Bench(const EngineBenchSettings& settings, engine::Engine* engine)
      : settings_(settings),
        engine_(engine),
        cache_(&engine->blocks()),
        copies_(&engine->blocks()),
        tokens_(static_cast<size_t>(settings.MaxContext() + settings.MaxRows())) {
    const uint64_t vocabulary = static_cast<uint64_t>(engine->info().vocabulary_size);
    for (size_t i = 0; i < tokens_.size(); ++i) {
      tokens_[i] = static_cast<TokenId>(i * 2654435761u % vocabulary);
    }
  }

  // The KV of the longest context.
  absl::Status Prepare() {
    const int32_t length = static_cast<int32_t>(tokens_.size());
    if (!cache_.Reserve(length) || !copies_.Reserve(2 * settings_.copied_tokens)) {
      return Overloaded("KV_TOO_SMALL", "the KV cache is too small for the longest context");
    }
    for (int begin = 0; begin < settings_.MaxContext(); begin += settings_.MaxRows()) {
      const int rows = std::min(settings_.MaxRows(), settings_.MaxContext() - begin);
      const absl::StatusOr<engine::Logits> done = engine_->Run({Rows(begin, rows, 1)});
      if (!done.ok()) return done.status();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> Seconds(const StepCase& step) {
    switch (step.kind) {
      case StepKind::kVerify: return Pass(step, step.rows);
      case StepKind::kPrefill: return Pass(step, 1);
      case StepKind::kHead: return Head(step);
      case StepKind::kKvCopy: return Copy(step);
    }
    return absl::InternalError("no such step");
  }

 private:
  engine::SequenceRows Rows(int begin, int rows, int logits_rows) const {
    engine::SequenceRows sequence;
    sequence.token_ids = absl::MakeConstSpan(tokens_).subspan(static_cast<size_t>(begin), static_cast<size_t>(rows));
    sequence.begin = begin;
    sequence.block_table = cache_.block_table();
    sequence.logits_begin = rows - logits_rows;
    return sequence;
  }

  absl::StatusOr<double> Pass(const StepCase& step, int logits_rows) {
    const int64_t start = engine::MonotonicClock().NowNs();
    const absl::StatusOr<engine::Logits> done = engine_->Run({Rows(step.context, step.rows, logits_rows)});
    if (!done.ok()) return done.status();
    return SecondsSince(start);
  }

  // The head alone, behind the first layer.
  absl::StatusOr<double> Head(const StepCase& step) {
    const absl::Status begun = engine_->BeginPass({Rows(step.context, step.rows, step.rows)});
    if (!begun.ok()) return begun;
    engine_->RunLayers(0, 1);
    const int64_t start = engine::MonotonicClock().NowNs();
    const absl::StatusOr<engine::Logits> done = engine_->Head();
    if (!done.ok()) return done.status();
    return SecondsSince(start);
  }

  absl::StatusOr<double> Copy(const StepCase& step) {
    std::vector<engine::SlotCopy> copies;
    for (int i = 0; i < step.rows; ++i) copies.push_back({Slot(i), Slot(step.rows + i)});
    const int64_t start = engine::MonotonicClock().NowNs();
    const absl::Status done = engine_->CopyKv(copies);
    if (!done.ok()) return done;
    return SecondsSince(start);
  }

  int32_t Slot(int index) const {
    const int32_t block_tokens = engine_->info().block_tokens;
    return copies_.block_table()[static_cast<size_t>(index / block_tokens)] * block_tokens + index % block_tokens;
  }

  const EngineBenchSettings& settings_;
  engine::Engine* const engine_;
  engine::SequenceCache cache_;
  engine::SequenceCache copies_;
  std::vector<TokenId> tokens_;
};

}  // namespace

engine::MachineLimits EngineMeasurement::BestLimits() const {
  engine::MachineLimits best;
  for (const engine::MachineLimits& each : limits) {
    best.read_gb_per_s = std::max(best.read_gb_per_s, each.read_gb_per_s);
    best.fma_gflop_per_s = std::max(best.fma_gflop_per_s, each.fma_gflop_per_s);
  }
  return best;
}

int NumKvBlocks(const EngineBenchSettings& settings, int block_tokens) {
  const auto blocks = [&](int tokens) { return (tokens + block_tokens - 1) / block_tokens; };
  return blocks(settings.MaxContext() + settings.MaxRows()) + blocks(2 * settings.copied_tokens);
}

absl::StatusOr<EngineMeasurement> RunEngineBench(const EngineBenchSettings& settings, engine::Engine* engine,
                                                 engine::LimitsMeter* meter, int num_threads,
                                                 const EngineProgress& progress) {
  EngineMeasurement measurement;
  measurement.num_threads = num_threads;
  for (const StepCase& step : ListCases(settings)) {
    measurement.steps.push_back({step, CostOf(step, engine->config(), engine->info()), {}});
  }
  const int repeats = settings.warm_ups + settings.repeats;
  const int64_t total = static_cast<int64_t>(measurement.steps.size()) * repeats;
  int64_t done = 0;
  progress(done, total, "prefill of the context");
  Bench bench(settings, engine);
  absl::Status prepared = bench.Prepare();
  if (!prepared.ok()) return prepared;
  const OtherLoad load;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const bool counts = repeat >= settings.warm_ups;
    for (MeasuredStep& measured : measurement.steps) {
      progress(done++, total, measured.step.Name());
      const absl::StatusOr<double> seconds = bench.Seconds(measured.step);
      if (!seconds.ok()) return seconds.status();
      if (counts) measured.seconds.push_back(*seconds);
    }
    // More often than once, for the best is looked for.
    for (int i = 0; i < 3; ++i) measurement.limits.push_back(meter->Measure());
  }
  measurement.other_load_cores = load.Cores();
  return measurement;
}

}  // namespace mirrorsd::bench
