// Bytes as any internal message: the first byte chooses which, the rest is parsed and validated as from a
// peer. What is taken must convert back to a message that is taken again and gives the same bytes; what is
// refused must name a field.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "common/check.h"
#include "common/error.h"
#include "grpcpp/support/status.h"
#include "mirrorsd/internal/v1/status.pb.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/limits.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"
#include "tests/fuzz/proto_mutator.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

pb::WorkerMessage Rewrite(const FromWorker& content) {
  pb::WorkerMessage message;
  message.set_scheduler_epoch(content.fence.scheduler_epoch);
  message.set_incarnation(content.fence.incarnation);
  if (const auto* hello = std::get_if<Hello>(&content.content)) {
    Write(*hello, message.mutable_hello());
  } else {
    for (const WorkerReport& report : std::get<std::vector<WorkerReport>>(content.content)) {
      Write(report, message.add_reports());
    }
  }
  return message;
}

pb::SchedulerMessage Rewrite(const FromScheduler& content) {
  pb::SchedulerMessage message;
  message.set_scheduler_epoch(content.fence.scheduler_epoch);
  message.set_incarnation(content.fence.incarnation);
  if (const auto* welcome = std::get_if<Welcome>(&content.content)) {
    Write(*welcome, message.mutable_welcome());
  } else if (const auto* refused = std::get_if<Refused>(&content.content)) {
    Write(*refused, message.mutable_refused());
  } else {
    for (const WorkerCommand& command : std::get<std::vector<WorkerCommand>>(content.content)) {
      Write(command, message.add_commands());
    }
  }
  return message;
}

pb::SubmitRequest Rewrite(const SubmitRequest& request) {
  pb::SubmitRequest message;
  Write(request, &message);
  return message;
}

pb::Committed Rewrite(const Committed& committed) {
  pb::Committed message;
  Write(committed, &message);
  return message;
}

pb::DescribeCellResponse Rewrite(const CellDescription& cell) {
  pb::DescribeCellResponse message;
  Write(cell, &message);
  return message;
}

// ---- no value beyond a limit passes -----------------------------------------------------------------

template <typename Ids>
void CheckIds(const Ids& ids, size_t most) {
  CHECK_LE(ids.size(), most);
  CHECK(std::all_of(ids.begin(), ids.end(), [](TokenId id) { return id >= 0; }));
}

void CheckBlocks(const KvBlocks& blocks) {
  CHECK(blocks.total <= kMaxKvBlocks && blocks.free >= 0 && blocks.evictable >= 0);
  CHECK_LE(blocks.free + blocks.evictable, blocks.total);
}

void CheckSampling(const SamplingParameters& sampling) {
  CHECK(sampling.temperature >= 0 && sampling.temperature <= 100);
  CHECK(sampling.top_p > 0 && sampling.top_p <= 1 && sampling.min_p >= 0 && sampling.min_p <= 1);
  CHECK(sampling.repetition_penalty > 0 && sampling.repetition_penalty <= 100);
  CHECK(sampling.top_k >= 0 && sampling.min_tokens >= 0);
  CHECK_LE(sampling.logit_bias.size(), size_t{kMaxLogitBias});
  for (size_t i = 0; i < sampling.logit_bias.size(); ++i) {
    CHECK(i == 0 || sampling.logit_bias[i - 1].first < sampling.logit_bias[i].first);
    CHECK(sampling.logit_bias[i].second >= -100 && sampling.logit_bias[i].second <= 100);
  }
}

struct LimitsOfCommand {
  void operator()(const StartSequence& start) const {
    CheckSampling(start.sampling);
    CheckIds(start.end_token_ids, kMaxEndTokens);
    CHECK(1 <= start.prompt_length && start.prompt_length <= start.total_length);
    CHECK_LE(start.total_length, kMaxContextTokens);
  }
  void operator()(const AppendTokens& append) const {
    CheckIds(append.token_ids, kMaxTokensPerAppend);
    CHECK(append.offset >= 0 && append.offset <= kMaxContextTokens);
  }
  void operator()(const StartVerify& start) const {
    CHECK(!start.items.empty() && start.items.size() <= size_t{kMaxRoundItems});
    for (const VerifyItem& item : start.items) {
      CheckIds(item.window, kMaxWindowTokens);
      CHECK(item.committed_length >= 1 && item.committed_length <= kMaxContextTokens);
      if (!item.is_prefill) continue;
      CHECK(0 <= item.begin && item.begin < item.end && item.end <= item.committed_length);
    }
  }
  void operator()(const StartRollout& start) const {
    CheckIds(start.window, kMaxWindowTokens);
    CheckIds(start.path_tokens, kMaxPathTokens);
    CHECK_EQ(static_cast<int64_t>(start.path_tokens.size()),
             int64_t{start.committed_length} - start.path_offset);
    CHECK(start.depth >= 1 && start.depth <= kMaxWindowTokens);
    CHECK(!start.roots.empty() && start.roots.size() <= size_t{kMaxRoots});
    for (const RolloutRoot& root : start.roots) {
      CHECK(root.num_accepted >= 0 && root.num_accepted <= static_cast<int>(start.window.size()));
      CHECK(root.token.has_value() ? *root.token >= 0
                                   : root.own_rank >= 0 && root.own_rank <= kMaxOwnRank);
    }
  }
  void operator()(const EndSequence&) const {}
  void operator()(const Drain&) const {}
};

struct LimitsOfReport {
  void operator()(const Heartbeat& heartbeat) const { CheckBlocks(heartbeat.blocks); }
  void operator()(const SequenceStarted& started) const {
    CHECK(started.cached_length >= 0 && started.cached_length <= kMaxContextTokens);
  }
  void operator()(const EarlyExitReported& reported) const {
    CHECK_LE(reported.items.size(), size_t{kMaxRoundItems});
    for (const EarlyExitItem& item : reported.items) {
      CHECK(!item.rows.empty() && item.rows.size() <= size_t{kMaxWindowTokens} + 1);
      for (const EarlyExitRow& row : item.rows) {
        CHECK_LE(row.candidates.size(), size_t{kMaxCandidates});
      }
    }
  }
  void operator()(const VerifyDone& done) const {
    CheckBlocks(done.blocks);
    CHECK_LE(done.items.size(), size_t{kMaxRoundItems});
    for (const VerifyItemDone& item : done.items) {
      CHECK(item.num_accepted >= 0 && item.num_accepted <= kMaxWindowTokens);
      CHECK(item.kv_length >= 0 && item.kv_length <= kMaxContextTokens);
      CHECK(!item.error.has_value() || !item.correction_token.has_value());
    }
  }
  void operator()(const SequenceEnded& ended) const { CheckBlocks(ended.blocks); }
  void operator()(const RolloutProgress& progress) const {
    CheckIds(progress.token_ids, kMaxWindowTokens);
    CHECK(progress.first_depth >= 0);
    CHECK_LE(progress.first_depth + progress.token_ids.size(), size_t{kMaxWindowTokens});
    CHECK(progress.scores.empty() || progress.scores.size() == progress.token_ids.size());
  }
  void operator()(const SequenceState& state) const { CheckBlocks(state.blocks); }
  void operator()(const Drain&) const {}
};

void CheckLimits(const FromWorker& content) {
  if (const auto* reports = std::get_if<std::vector<WorkerReport>>(&content.content)) {
    CHECK_LE(reports->size(), size_t{kMaxBatchEntries});
    for (const WorkerReport& report : *reports) std::visit(LimitsOfReport(), report);
    return;
  }
  const Hello& hello = std::get<Hello>(content.content);
  CHECK(hello.name.size() <= kMaxNameBytes && hello.numerics_id.size() <= kMaxNameBytes);
  CheckBlocks(hello.blocks);
  if (hello.schema_revision != kSchemaRevision) return;
  CHECK(hello.context_length >= 1 && hello.vocabulary_size >= 1 && hello.limits.max_rows >= 1);
  CHECK(hello.limits.max_window >= 0 && hello.limits.max_window <= kMaxWindowTokens);
}

void CheckLimits(const FromScheduler& content) {
  const auto* commands = std::get_if<std::vector<WorkerCommand>>(&content.content);
  if (commands == nullptr) return;
  CHECK_LE(commands->size(), size_t{kMaxBatchEntries});
  for (const WorkerCommand& command : *commands) std::visit(LimitsOfCommand(), command);
}

void CheckLimits(const SubmitRequest& request) {
  CHECK(!request.request_id.empty() && request.request_id.size() <= kMaxRequestIdBytes);
  CHECK(!request.token_ids.empty());
  CheckIds(request.token_ids, kMaxPromptTokens);
  CheckIds(request.end_token_ids, kMaxEndTokens);
  CheckSampling(request.sampling);
  CHECK(request.max_tokens >= 1 && request.max_tokens <= kMaxContextTokens);
}

void CheckLimits(const Committed& committed) {
  CheckIds(committed.token_ids, kMaxCommittedTokens);
  CHECK_EQ(committed.origins.size(), committed.token_ids.size());
}

void CheckLimits(const CellDescription& cell) {
  CHECK(cell.context_length >= 0 && cell.vocabulary_size >= 0);
  CHECK_LE(cell.workers.size(), size_t{kMaxAttachedWorkers});
  for (const AttachedWorker& worker : cell.workers) CheckBlocks(worker.blocks);
}

// -----------------------------------------------------------------------------------------------------

template <typename Message>
void TryMessage(const std::string& bytes) {
  Message message;
  if (!message.ParseFromString(bytes)) return;
  const auto parsed = Parse(message);
  if (!parsed.ok()) {
    const auto info = GetErrorInfo(parsed.status());
    CHECK(info.has_value() && info->reason == "INVALID_FIELD" && !info->field.empty());
    const absl::Status back = FromGrpcStatus(ToGrpcStatus(parsed.status()));
    CHECK(back.code() == parsed.status().code());
    return;
  }
  CheckLimits(*parsed);
  const Message first = Rewrite(*parsed);
  const auto again = Parse(first);
  CHECK(again.ok()) << again.status();
  CHECK(Rewrite(*again).SerializeAsString() == first.SerializeAsString());
}

void TryStatus(const std::string& bytes) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, bytes.substr(0, 64), bytes));
  const auto info = GetErrorInfo(status);
  if (!info.has_value()) return;
  CHECK(GetErrorInfo(FromGrpcStatus(ToGrpcStatus(status))) == info);
}

std::unique_ptr<google::protobuf::Message> MakeMessage(uint8_t tag) {
  switch (tag % 6) {
    case 0: return std::make_unique<pb::WorkerMessage>();
    case 1: return std::make_unique<pb::SchedulerMessage>();
    case 2: return std::make_unique<pb::SubmitRequest>();
    case 3: return std::make_unique<pb::Committed>();
    case 4: return std::make_unique<pb::DescribeCellResponse>();
    default: return std::make_unique<pb::StatusDetails>();
  }
}

}  // namespace
}  // namespace mirrorsd::wire

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  return mirrorsd::fuzz::MutateTagged(data, size, max_size, seed, mirrorsd::wire::MakeMessage);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::wire;  // NOLINT
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: TryMessage<pb::WorkerMessage>(bytes); break;
    case 1: TryMessage<pb::SchedulerMessage>(bytes); break;
    case 2: TryMessage<pb::SubmitRequest>(bytes); break;
    case 3: TryMessage<pb::Committed>(bytes); break;
    case 4: TryMessage<pb::DescribeCellResponse>(bytes); break;
    default: TryStatus(bytes);
  }
  return 0;
}
