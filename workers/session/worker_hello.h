#pragma once
// What both sessions say of their engine when they attach, and how they measure it. Not thread-safe.

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/worker_messages.h"
#include "workers/engine/engine.h"
#include "workers/engine/tensor/clock.h"

namespace mirrorsd::workers {

// The part of Hello that the engine knows; model and vocabulary names are the session's.
Hello DescribeEngine(const engine::EngineInfo& info);

KvBlocks CountBlocks(const engine::BlockPool& pool);

// `limits` cut down to what the engine can do in one pass.
WorkerLimits CapToEngine(WorkerLimits limits, const engine::EngineInfo& info);

bool IsInVocabulary(absl::Span<const TokenId> token_ids, int32_t vocabulary_size);

// The reason of a status as a peer is told it.
WorkerError ToWorkerError(const absl::Status& status);

// What a pass of one row costs and what each further row adds: the fastest of a few passes over a scratch
// sequence, whose blocks are free again afterwards. Zero where the engine cannot run one.
StepTimes MeasureStepTimes(engine::Engine* engine, engine::Clock& clock);

}  // namespace mirrorsd::workers
