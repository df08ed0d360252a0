// Bytes as what a scheduler sends to a worker, taken by real sessions over a micro model: whatever validates is
// refused, dropped or done, every round is answered once, all that is reported validates in its turn, and at
// the end no block is held. The first byte chooses the role and how often the session works.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "services/wire/fleet_wire.h"
#include "tests/fuzz/proto_mutator.h"
#include "tests/support/micro_model.h"
#include "workers/draft/draft_session.h"
#include "workers/engine/engine.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::workers {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr int32_t kVocabulary = 48;
constexpr uint8_t kIsDraft = 1;
constexpr uint8_t kWorksSeldom = 2;

std::unique_ptr<engine::Engine> MakeEngine() {
  engine::EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 8;
  options.max_rows = 1024;
  auto engine = engine::Engine::Create(
      options, testing::MakeMicroModel({.vocabulary_size = kVocabulary, .max_positions = 96}));
  CHECK(engine.ok()) << engine.status();
  return *std::move(engine);
}

class Session {
 public:
  explicit Session(bool is_draft) : engine_(SharedEngine()) {
    if (is_draft) {
      draft_ = std::make_unique<DraftSession>(
          engine_, DraftSessionOptions{.limits = {4, 64, 6}, .catch_up_chunk_tokens = 16});
    } else {
      verifier_ = std::make_unique<VerifierSession>(
          engine_, VerifierSessionOptions{.limits = {4, 80, 10}});
    }
  }

  void Handle(const WorkerCommand& command) {
    if (const auto* verify = std::get_if<StartVerify>(&command); verify && verifier_) {
      asked_.emplace_back(verify->round_id, verify->items.size());
    }
    draft_ ? draft_->Handle(command) : verifier_->Handle(command);
  }

  bool HasWork() const { return draft_ ? draft_->HasWork() : verifier_->HasWork(); }

  void Work() {
    const auto hear = [this](const WorkerReport& report) { Hear(report); };
    draft_ ? draft_->Work(hear) : verifier_->Work(hear);
  }

  void CheckEnd(const std::vector<SequenceId>& ids) {
    for (int steps = 0; HasWork(); ++steps) {
      CHECK_LT(steps, 100'000);
      Work();
    }
    std::sort(asked_.begin(), asked_.end());
    std::sort(answered_.begin(), answered_.end());
    CHECK(asked_ == answered_);
    for (const SequenceId id : ids) Handle(EndSequence{id});
    CHECK_EQ(engine_->blocks().num_referenced(), 0);
    CHECK(engine_->blocks().CheckInvariants().ok());
    draft_ ? draft_->Reset() : verifier_->Reset();
  }

 private:
  static engine::Engine* SharedEngine() {
    static engine::Engine* const engine = MakeEngine().release();
    return engine;
  }

  void Hear(const WorkerReport& report) {
    pb::WorkerMessage message;
    wire::Write(report, message.add_reports());
    const auto taken = wire::Parse(message);
    CHECK(taken.ok()) << taken.status();
    if (const auto* done = std::get_if<VerifyDone>(&report)) {
      answered_.emplace_back(done->round_id, done->items.size());
    }
  }

  engine::Engine* const engine_;
  std::unique_ptr<DraftSession> draft_;
  std::unique_ptr<VerifierSession> verifier_;
  std::vector<std::pair<RoundId, size_t>> asked_, answered_;
};

SequenceId IdOf(const WorkerCommand& command) {
  if (const auto* start = std::get_if<StartSequence>(&command)) return start->sequence_id;
  return 0;
}

std::unique_ptr<google::protobuf::Message> MakeMessage(uint8_t) {
  return std::make_unique<pb::SchedulerMessage>();
}

}  // namespace
}  // namespace mirrorsd::workers

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  return mirrorsd::fuzz::MutateTagged(data, size, max_size, seed, mirrorsd::workers::MakeMessage);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd;           // NOLINT
  using namespace mirrorsd::workers;  // NOLINT
  pb::SchedulerMessage message;
  if (size == 0 || !message.ParseFromArray(data + 1, static_cast<int>(size - 1))) return 0;
  const auto parsed = wire::Parse(message);
  if (!parsed.ok()) return 0;
  const auto* commands = std::get_if<std::vector<WorkerCommand>>(&parsed->content);
  if (commands == nullptr) return 0;
  Session session((data[0] & kIsDraft) != 0);
  std::vector<SequenceId> ids;
  for (size_t i = 0; i < commands->size(); ++i) {
    session.Handle((*commands)[i]);
    ids.push_back(IdOf((*commands)[i]));
    if (session.HasWork() && ((data[0] & kWorksSeldom) == 0 || i % 4 == 3)) session.Work();
  }
  session.CheckEnd(ids);
  return 0;
}
