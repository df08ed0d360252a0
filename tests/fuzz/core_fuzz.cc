// Bytes as the life of a scheduler core whose peers may say anything that validates: requests, workers that come
// and go, honest answers and any report that a wire message can hold, in any order. Invariants hold after each step,
// what the core sends validates, every stream ends once and nothing follows its end.
//
// The input is a list of steps: op, argument, size (two bytes, little endian), a message of that size.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/check.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/scheduling_wire.h"
#include "tests/fuzz/proto_mutator.h"

namespace mirrorsd::scheduler {
namespace {

namespace pb = ::mirrorsd::internal::v1;

enum Op : uint8_t {
  kSubmit = 0,  // SubmitRequest
  kAttach,      // WorkerMessage with a Hello
  kReport,      // WorkerMessage with reports; connection = argument
  kAnswer,      // honestly, the oldest command that the connection has not answered
  kTwist,       // the same with one field of the answer changed
  kWait,
  kDetach,
  kCancel,
  kQueueFull,
  kDrain,
  kNumOps,
};

struct FuzzStep {
  uint8_t op = 0;
  uint8_t argument = 0;
  std::string bytes;
};

std::vector<FuzzStep> ReadSteps(const uint8_t* data, size_t size) {
  std::vector<FuzzStep> steps;
  for (size_t at = 0; at + 4 <= size && steps.size() < 256;) {
    const size_t wanted = data[at + 2] + size_t{256} * data[at + 3];
    const size_t got = std::min(wanted, size - at - 4);
    steps.push_back({data[at], data[at + 1],
                     std::string(reinterpret_cast<const char*>(data) + at + 4, got)});
    at += 4 + got;
  }
  return steps;
}

std::string WriteSteps(const std::vector<FuzzStep>& steps) {
  std::string out;
  for (const FuzzStep& step : steps) {
    const size_t size = std::min<size_t>(step.bytes.size(), 65535);
    out += {static_cast<char>(step.op), static_cast<char>(step.argument),
            static_cast<char>(size & 255), static_cast<char>(size >> 8)};
    out.append(step.bytes, 0, size);
  }
  return out;
}

std::unique_ptr<google::protobuf::Message> MakeMessage(uint8_t op) {
  switch (op % kNumOps) {
    case kSubmit: return std::make_unique<pb::SubmitRequest>();
    case kAttach:
    case kReport: return std::make_unique<pb::WorkerMessage>();
    default: return nullptr;
  }
}

struct Peer {
  std::optional<Fence> fence;
  bool is_draft = false;
  bool gone = false;
  std::deque<WorkerCommand> to_answer;
};

class Life {
 public:
  Life() : core_(Config()) {}

  void Play(const FuzzStep& step) {
    const uint8_t argument = step.argument;
    switch (step.op % kNumOps) {
      case kSubmit: return Submit(step.bytes);
      case kAttach: return Attach(step.bytes);
      case kReport: return Report(argument, step.bytes);
      case kAnswer: return Answer(argument, std::nullopt);
      case kTwist: return Answer(argument, argument * 7 + step.bytes.size());
      case kWait: now_ += absl::Milliseconds(20) * argument; return Step(TimePassed{});
      case kDetach: return Detach(argument);
      case kCancel: return Step(Cancelled{argument % (last_stream_ + 2)});
      case kQueueFull: return Step(WorkerQueueFull{argument % (peers_.size() + 2)});
      default:
        if (argument == 255) Step(DrainRequested{});
    }
  }

  // Nobody is left and all patience is over: every stream must have ended.
  void End() {
    for (size_t i = 0; i < peers_.size(); ++i) Detach(static_cast<uint8_t>(i));
    for (int i = 0; i < 64 && core_.NextDeadline() != absl::InfiniteFuture(); ++i) {
      now_ = std::max(now_ + absl::Seconds(1), core_.NextDeadline());
      Step(TimePassed{});
    }
    CHECK_EQ(ended_.size(), static_cast<size_t>(last_stream_));
  }

 private:
  static CoreConfig Config() {
    CoreConfig config;
    config.policies.assign(Policies().begin(), Policies().end());
    config.max_queued = 8;
    config.max_num_seqs = 4;
    config.queue_timeout = absl::Seconds(20);
    config.verifier_loss_timeout = absl::Seconds(5);
    return config;
  }

  void Step(const Event& event) {
    actions_.clear();
    now_ += absl::Microseconds(100);
    core_.Step(now_, event, &actions_);
    core_.CheckInvariants();
    for (const Action& action : actions_) std::visit([this](const auto& a) { Take(a); }, action);
  }

  void Submit(const std::string& bytes) {
    pb::SubmitRequest message;
    if (!message.ParseFromString(bytes)) return;
    auto request = wire::Parse(message);
    if (request.ok()) Step(Submitted{++last_stream_, *std::move(request)});
  }

  void Attach(const std::string& bytes) {
    pb::WorkerMessage message;
    if (peers_.size() >= 12 || !message.ParseFromString(bytes)) return;
    auto parsed = wire::Parse(message);
    if (!parsed.ok() || !std::holds_alternative<Hello>(parsed->content)) return;
    const Hello& hello = std::get<Hello>(parsed->content);
    peers_.push_back({.is_draft = hello.role == WorkerRole::kDraft});
    Step(WorkerAttached{peers_.size() - 1, hello});
  }

  // As services/scheduler splits a message.
  void Report(uint8_t argument, const std::string& bytes) {
    pb::WorkerMessage message;
    if (peers_.empty() || !message.ParseFromString(bytes)) return;
    auto parsed = wire::Parse(message);
    if (!parsed.ok()) return;
    auto* reports = std::get_if<std::vector<WorkerReport>>(&parsed->content);
    if (reports == nullptr) return;
    const ConnectionId connection = argument % peers_.size();
    // A message may claim a fence of its own; 1 in the epoch stands for the true one.
    Fence fence = parsed->fence;
    if (fence.scheduler_epoch == 1) fence = peers_[connection].fence.value_or(fence);
    for (WorkerReport& report : *reports) Tell(connection, fence, std::move(report));
  }

  void Tell(ConnectionId connection, const Fence& fence, WorkerReport report) {
    const auto say = [&](ReportItem item) {
      Step(WorkerReported{connection, fence, std::move(item)});
    };
    if (auto* done = std::get_if<VerifyDone>(&report)) {
      for (VerifyItemDone& item : done->items) say(VerifyItemReport{done->round_id, item});
      say(VerifyRoundDone{done->round_id, done->times, done->blocks});
    } else if (auto* exit = std::get_if<EarlyExitReported>(&report)) {
      for (EarlyExitItem& item : exit->items) say(EarlyExitItemReport{exit->round_id, item});
      say(EarlyExitRoundReport{exit->round_id, exit->sent_at_ns, exit->times});
    } else {
      std::visit(
          [&](auto& item) {
            using T = std::decay_t<decltype(item)>;
            if constexpr (std::is_constructible_v<ReportItem, T>) say(std::move(item));
          },
          report);
    }
  }

  void Answer(uint8_t argument, std::optional<uint64_t> twist) {
    if (peers_.empty()) return;
    const ConnectionId connection = argument % peers_.size();
    Peer& peer = peers_[connection];
    std::optional<WorkerReport> answer;
    while (!answer.has_value() && !peer.to_answer.empty()) {
      answer = std::visit([&](const auto& command) { return HonestAnswer(peer, command); },
                          peer.to_answer.front());
      peer.to_answer.pop_front();
    }
    if (!answer.has_value() || !peer.fence.has_value()) return;
    const Fence fence = *peer.fence;
    if (!twist.has_value()) return Tell(connection, fence, *std::move(answer));
    pb::WorkerMessage message;
    wire::Write(*answer, message.add_reports());
    fuzz::Random random(*twist);
    fuzz::MutateMessage(message.mutable_reports(0), &random);
    auto parsed = wire::Parse(message);
    if (!parsed.ok()) return;
    for (WorkerReport& report : std::get<std::vector<WorkerReport>>(parsed->content)) {
      Tell(connection, fence, std::move(report));
    }
  }

  // ---- what an honest worker says; no answer to what needs none ----
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const StartSequence& start) {
    totals_[start.sequence_id] = start.total_length;
    return std::nullopt;
  }
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const AppendTokens& append) {
    const int32_t total = totals_[append.sequence_id];
    if (append.offset + static_cast<int32_t>(append.token_ids.size()) < total) return std::nullopt;
    if (!peer.is_draft) return SequenceStarted{append.sequence_id, 0};
    return SequenceState{append.sequence_id, DraftSequenceState::kReady, total, kBlocks};
  }
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const StartVerify& start) {
    VerifyDone done{.round_id = start.round_id, .blocks = kBlocks};
    for (const VerifyItem& item : start.items) {
      VerifyItemDone entry{.sequence_id = item.sequence_id};
      entry.num_accepted = static_cast<int32_t>(item.window.size() * (start.round_id % 3) / 2);
      entry.num_accepted = std::min<int32_t>(entry.num_accepted, item.window.size());
      entry.kv_length =
          item.is_prefill ? item.end : item.committed_length + entry.num_accepted;
      if (!item.is_prefill || item.end == item.committed_length) {
        TokenId token = static_cast<TokenId>(entry.kv_length % 13);
        const size_t next = static_cast<size_t>(entry.num_accepted);
        if (next < item.window.size() && item.window[next] == token) token += 1;
        entry.correction_token = token;
      }
      done.items.push_back(std::move(entry));
    }
    return done;
  }
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const StartRollout& start) {
    return RolloutProgress{.sequence_id = start.sequence_id,
                           .round_id = start.round_id,
                           .num_accepted = start.roots[0].num_accepted,
                           .root_token = start.roots[0].token.value_or(0),
                           .token_ids = std::vector<TokenId>(start.depth, 3),
                           .last = true};
  }
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const EndSequence& end) {
    if (!peer.is_draft) return SequenceEnded{end.sequence_id, kBlocks};
    return SequenceState{end.sequence_id, DraftSequenceState::kAbsent, 0, kBlocks};
  }
  std::optional<WorkerReport> HonestAnswer(Peer& peer, const Drain&) { return std::nullopt; }

  void Detach(uint8_t argument) {
    if (peers_.empty()) return;
    const ConnectionId connection = argument % peers_.size();
    if (std::exchange(peers_[connection].gone, true)) return;
    peers_[connection].fence.reset();
    Step(WorkerDetached{connection, "gone"});
  }

  // ---- what the core does ----
  void Take(const WelcomeWorker& welcome) {
    Peer& peer = peers_.at(welcome.connection);
    CHECK(!peer.fence.has_value() && !peer.gone);
    peer.fence = {welcome.welcome.scheduler_epoch, welcome.welcome.incarnation};
  }
  void Take(const RefuseWorker& refuse) { Cut(refuse.connection); }
  void Take(const CloseWorker& close) { Cut(close.connection); }
  void Cut(ConnectionId connection) {
    peers_.at(connection).fence.reset();
    peers_[connection].to_answer.clear();
    CHECK(cut_.insert(connection).second);
  }
  void Take(const SendToWorker& send) {
    CHECK(cut_.count(send.connection) == 0);
    pb::SchedulerMessage message;
    wire::Write(send.command, message.add_commands());
    const auto parsed = wire::Parse(message);
    CHECK(parsed.ok()) << parsed.status();
    peers_.at(send.connection).to_answer.push_back(send.command);
  }
  void Take(const CommitTokens& commit) {
    CHECK(ended_.count(commit.stream) == 0);
    int32_t& next = next_output_[commit.stream];
    CHECK_EQ(commit.committed.output_index, next);
    next += static_cast<int32_t>(commit.committed.token_ids.size());
    pb::Committed message;
    wire::Write(commit.committed, &message);
    const auto parsed = wire::Parse(message);
    CHECK(parsed.ok()) << parsed.status();
    if (commit.committed.finish != FinishReason::kNone) ended_.insert(commit.stream);
  }
  void Take(const FailRequest& fail) {
    CHECK(!fail.status.ok());
    CHECK(ended_.insert(fail.stream).second);
  }

  static constexpr KvBlocks kBlocks{.total = 64, .free = 32, .evictable = 8};

  Core core_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<Action> actions_;
  std::vector<Peer> peers_;  // by connection
  ConnectionId last_stream_ = 0;
  std::map<SequenceId, int32_t> totals_;
  std::map<ConnectionId, int32_t> next_output_;
  std::set<ConnectionId> ended_;
  std::set<ConnectionId> cut_;
};

}  // namespace
}  // namespace mirrorsd::scheduler

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  using namespace mirrorsd::scheduler;  // NOLINT
  mirrorsd::fuzz::Random random(seed);
  std::vector<FuzzStep> steps = ReadSteps(data, size);
  if (steps.empty() || random() % 16 == 0) return mirrorsd::fuzz::MutateBytes(data, size, max_size);
  for (uint64_t times = 1 + random() % 4; times > 0 && !steps.empty(); --times) {
    const size_t at = random() % steps.size();
    switch (random() % 8) {
      case 0: steps.erase(steps.begin() + at); break;
      case 1: steps.insert(steps.begin() + at, FuzzStep(steps[random() % steps.size()])); break;
      case 2: std::swap(steps[at], steps[random() % steps.size()]); break;
      case 3:  // a stretch of honest answers, so that lives get somewhere
        for (uint64_t i = random() % 8; i > 0; --i) {
          steps.insert(steps.begin() + at, {kAnswer, static_cast<uint8_t>(random() % 4), ""});
        }
        break;
      case 4:
        steps.insert(steps.begin() + at,
                     {static_cast<uint8_t>(kTwist + random() % 5), static_cast<uint8_t>(random()),
                      std::string(random() % 3, ' ')});
        break;
      case 5: steps[at].argument = static_cast<uint8_t>(random()); break;
      default:
        if (const auto message = MakeMessage(steps[at].op)) {
          if (!message->ParsePartialFromString(steps[at].bytes)) break;
          mirrorsd::fuzz::MutateMessage(message.get(), &random);
          steps[at].bytes = message->SerializePartialAsString();
        } else {
          steps[at].op = static_cast<uint8_t>(random() % kNumOps);
        }
    }
  }
  const std::string bytes = WriteSteps(steps);
  if (bytes.size() > max_size) return mirrorsd::fuzz::MutateBytes(data, size, max_size);
  bytes.copy(reinterpret_cast<char*>(data), bytes.size());
  return bytes.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::scheduler;  // NOLINT
  Life life;
  for (const FuzzStep& step : ReadSteps(data, size)) life.Play(step);
  life.End();
  return 0;
}
