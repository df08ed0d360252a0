#include "workers/session/worker_hello.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "common/error.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::workers {
namespace {

constexpr int kMeasuredPasses = 4;
constexpr int32_t kMeasuredRows = 8;

std::optional<int64_t> FastestPassNs(engine::Engine* engine, engine::Clock& clock,
                                     const engine::SequenceCache& cache, int32_t num_rows) {
  const std::vector<TokenId> token_ids(static_cast<size_t>(num_rows), 0);
  const engine::SequenceRows rows{.token_ids = token_ids, .block_table = cache.block_table()};
  int64_t fastest = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < kMeasuredPasses; ++i) {
    const int64_t started_ns = clock.NowNs();
    if (!engine->Run({rows}).ok()) return std::nullopt;
    fastest = std::min(fastest, clock.NowNs() - started_ns);
  }
  return fastest;
}

}  // namespace

Hello DescribeEngine(const engine::EngineInfo& info) {
  return Hello{.model_name = info.model_name,
               .model_fingerprint = info.model_fingerprint,
               .numerics_id = info.numerics_id,
               .context_length = info.context_length,
               .vocabulary_size = info.vocabulary_size,
               .num_layers = info.num_layers,
               .kv_block_tokens = info.block_tokens,
               .process_id = static_cast<int64_t>(getpid())};
}

KvBlocks CountBlocks(const engine::BlockPool& pool) {
  return KvBlocks{
      .total = pool.num_blocks(), .free = pool.num_free(), .evictable = pool.num_evictable()};
}

WorkerLimits CapToEngine(WorkerLimits limits, const engine::EngineInfo& info) {
  limits.max_rows = std::min(limits.max_rows, info.max_rows);
  limits.max_window = std::min(limits.max_window, info.max_logits_rows - 1);
  return limits;
}

bool IsInVocabulary(absl::Span<const TokenId> token_ids, int32_t vocabulary_size) {
  return std::all_of(token_ids.begin(), token_ids.end(), [&](TokenId token) {
    return token >= 0 && token < vocabulary_size;
  });
}

WorkerError ToWorkerError(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  return WorkerError{info.has_value() && !info->reason.empty() ? info->reason : "INTERNAL",
                     std::string(status.message())};
}

StepTimes MeasureStepTimes(engine::Engine* engine, engine::Clock& clock) {
  const int32_t num_rows = std::min(
      {kMeasuredRows, engine->info().max_rows, engine->info().max_logits_rows,
       engine->info().context_length});
  engine::SequenceCache cache(&engine->blocks());
  if (num_rows < 1 || !cache.Reserve(num_rows)) return {};
  const std::optional<int64_t> one = FastestPassNs(engine, clock, cache, 1);
  const std::optional<int64_t> all = FastestPassNs(engine, clock, cache, num_rows);
  if (!one.has_value() || !all.has_value()) return {};
  StepTimes times{.base_ns = *one};
  if (num_rows > 1) times.per_row_ns = std::max<int64_t>(0, (*all - *one) / (num_rows - 1));
  return times;
}

}  // namespace mirrorsd::workers
