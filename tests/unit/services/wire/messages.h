#pragma once
// One full example of every internal message, for round trips and as the good message that a test spoils.

#include <vector>

#include "common/request.h"
#include "common/worker_messages.h"
#include "services/wire/cell_description.h"

namespace mirrorsd::wire {

inline SamplingParameters FullSampling() {
  return {.temperature = 0.5f,
          .top_k = 40,
          .top_p = 0.9f,
          .min_p = 0.1f,
          .repetition_penalty = 1.2f,
          .presence_penalty = -0.5f,
          .frequency_penalty = 0.25f,
          .min_tokens = 3,
          .logit_bias = {{0, -100.0f}, {7, 2.5f}},
          .seed = 0xFFFF'FFFF'FFFF'FFFFu,
          .sample_index = 2};
}

inline Hello FullHello() {
  return {.role = WorkerRole::kDraft,
          .name = "draft-0",
          .boot_id = "boot",
          .model_name = "demo",
          .model_fingerprint = "aa",
          .vocabulary_fingerprint = "bb",
          .numerics_id = "cc",
          .context_length = 4096,
          .vocabulary_size = 640,
          .num_layers = 12,
          .kv_block_tokens = 16,
          .limits = {.max_sequences = 8, .max_rows = 128, .max_window = 16},
          .blocks = {.total = 10, .free = 4, .evictable = 6},
          .step_times = {.base_ns = 1000, .per_row_ns = 10},
          .process_id = 42};
}

inline std::vector<WorkerCommand> FullCommands() {
  return {
      StartSequence{.sequence_id = 1,
                    .sampling = FullSampling(),
                    .end_token_ids = {2, 3},
                    .prompt_length = 4,
                    .total_length = 6},
      AppendTokens{.sequence_id = 1, .offset = 4, .token_ids = {5, 6}},
      StartVerify{.round_id = 9,
                  .items = {{.sequence_id = 1,
                             .committed_length = 6,
                             .is_prefill = true,
                             .begin = 2,
                             .end = 6},
                            {.sequence_id = 2, .committed_length = 8, .window = {1, 2, 3}, .branch_top_k = 4},
                            {.sequence_id = 3, .committed_length = 1}}},
      StartRollout{.sequence_id = 1,
                   .round_id = 9,
                   .committed_length = 6,
                   .path_offset = 4,
                   .path_tokens = {5, 6},
                   .window = {7, 8},
                   .roots = {{.num_accepted = 2, .token = 11}, {.num_accepted = 0, .own_rank = 3}},
                   .depth = 4,
                   .exit_sent_at_ns = 77},
      EndSequence{.sequence_id = 1},
      Drain{},
  };
}

inline std::vector<WorkerReport> FullReports() {
  const KvBlocks blocks{.total = 10, .free = 4, .evictable = 5};
  const VerifierPhaseTimes times{1, 2, 3, 4, 5};
  return {
      Heartbeat{.sent_at_ns = 5, .num_rounds_done = 6, .blocks = blocks},
      SequenceStarted{.sequence_id = 1, .cached_length = 16},
      EarlyExitReported{
          .round_id = 9,
          .sent_at_ns = 10,
          .items = {{.sequence_id = 1,
                     .rows = {{.drafted_score = 1.5f, .candidates = {{3, 2.0f}, {4, -1.0f}}},
                              {.candidates = {{5, 0.5f}}}}}},
          .times = times},
      VerifyDone{.round_id = 9,
                 .sent_at_ns = 11,
                 .items = {{.sequence_id = 1,
                            .kv_length = 8,
                            .num_accepted = 2,
                            .correction_token = 0},
                           {.sequence_id = 2, .kv_length = 4},
                           {.sequence_id = 3, .error = WorkerError{"NAN_LOGITS", "row 1"}}},
                 .times = times,
                 .blocks = blocks},
      SequenceEnded{.sequence_id = 1, .blocks = blocks},
      RolloutProgress{.sequence_id = 1,
                      .round_id = 9,
                      .num_accepted = 2,
                      .root_token = 11,
                      .first_depth = 1,
                      .token_ids = {3, 4},
                      .scores = {0.5f, -2.0f},
                      .last = true,
                      .started_at_ns = 12,
                      .times = {.queue_ns = 1, .rollout_ns = 2}},
      SequenceState{.sequence_id = 1,
                    .state = DraftSequenceState::kEvicted,
                    .draft_kv_length = 5,
                    .blocks = blocks},
      Drain{},
  };
}

inline SubmitRequest FullSubmit() {
  return {.request_id = "r",
          .vocabulary_fingerprint = "bb",
          .token_ids = {1, 2, 3},
          .sampling = FullSampling(),
          .end_token_ids = {2},
          .max_tokens = 10,
          .deadline = absl::Seconds(3),
          .speculation = SpeculationMode::kSerial,
          .num_speculative_tokens = 0,
          .branch_top_k = 7};
}

inline Committed FullCommitted() {
  return {.output_index = 4,
          .token_ids = {1, 2, 3},
          .origins = {TokenOrigin::kAccepted, TokenOrigin::kAccepted, TokenOrigin::kBonus},
          .finish = FinishReason::kStop,
          .stats = {.rounds = 3,
                    .drafted_tokens = 8,
                    .accepted_tokens = 5,
                    .accepted_per_position = {3, 2},
                    .drafted_per_position = {4, 4},
                    .empty_window_rounds = 1,
                    .branch_hits = 2,
                    .branch_hit_depth_sum = 6,
                    .branch_misses = 1,
                    .ngram_window_rounds = 1,
                    .held_rounds = 1,
                    .max_batch = 7,
                    .resumes = 1},
          .queue_time = absl::Milliseconds(2)};
}

inline CellDescription FullCell() {
  return {.scheduler_epoch = 3,
          .ready = true,
          .not_ready_reason = "none",
          .model_name = "demo",
          .model_fingerprint = "aa",
          .vocabulary_fingerprint = "bb",
          .context_length = 1024,
          .vocabulary_size = 640,
          .default_speculation = SpeculationMode::kSerial,
          .default_num_speculative_tokens = 4,
          .speculation_degraded = {"draft_lost"},
          .num_requests_running = 2,
          .num_requests_waiting = 1,
          .workers = {{.name = "v",
                       .role = WorkerRole::kVerifier,
                       .state = "ready",
                       .model_name = "demo",
                       .numerics_id = "cc",
                       .process_id = 9,
                       .blocks = {.total = 10, .free = 4, .evictable = 6},
                       .num_sequences = 3},
                      {.name = "d", .role = WorkerRole::kDraft, .state = "late"}}};
}

}  // namespace mirrorsd::wire
