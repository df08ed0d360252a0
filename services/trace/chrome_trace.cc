#include "services/trace/chrome_trace.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mirrorsd::trace {
namespace {

using nlohmann::ordered_json;

constexpr char kAnchoring[] =
    "Workers tell how long a phase took. The phases of a round are laid back to back to end when its VerifyDone came "
    "in, a rollout to end when its last message came in; so all of it is late by the way of one message.";
constexpr int kTransferPid = 1'000'000;
constexpr int kMaxSlots = 16;  // threads of one lane whose slices overlap

// Where a slice came to lie; flow arrows bind to it.
struct Placed {
  int pid = 0;
  int tid = 0;
  Stretch stretch;
};

// Slices of one thread must not overlap: a lane has as many threads as it needs.
class Lanes {
 public:
  // The thread for a slice of `lane` that begins behind all that were placed before. A small overlap is the messages'
  // doing, whose ways are not equally long: it is cut off.
  int Place(int pid, int lane, Stretch* stretch) {
    std::vector<int64_t>& ends = ends_[{pid, lane}];
    const int64_t slack = (stretch->end_ns - stretch->begin_ns) / 4;
    size_t slot = 0;
    while (slot < ends.size() && ends[slot] > stretch->begin_ns + slack) ++slot;
    if (slot == kMaxSlots) slot = 0;  // more at a time than anyone could read
    if (slot == ends.size()) ends.push_back(0);
    stretch->begin_ns = std::max(stretch->begin_ns, ends[slot]);
    stretch->end_ns = std::max(stretch->end_ns, stretch->begin_ns);
    ends[slot] = stretch->end_ns;
    return lane * 100 + static_cast<int>(slot);
  }
  const std::map<std::pair<int, int>, std::vector<int64_t>>& all() const { return ends_; }

 private:
  std::map<std::pair<int, int>, std::vector<int64_t>> ends_;  // by (pid, lane): where each slot is free again
};

enum Lane : int { kRounds = 1, kQueue = 2, kFirstRollout = 3, kCatchUp = 6, kRelay = 7 };
constexpr const char* kLaneNames[] = {"",           "rounds",         "queue",    "P1 rollouts",
                                      "P2 rollouts", "serial rollouts", "catch-up", "exit relay"};

std::string Safe(const ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class Writer {
 public:
  explicit Writer(const Timeline& timeline) : timeline_(timeline) {
    for (size_t i = 0; i < timeline.workers.size(); ++i) {
      pids_.try_emplace(timeline.workers[i].connection, static_cast<int>(i) + 1);
    }
  }

  std::string Text() {
    Collect();
    WriteRounds();
    WriteRollouts();
    WriteFlows();
    WriteNames();
    return absl::StrCat("{\"displayTimeUnit\":\"ms\",\"otherData\":{\"times\":", Safe(ordered_json(kAnchoring)),
                        "},\n\"traceEvents\":[\n", events_, "\n]}\n");
  }

 private:
  // What lies on one lane, to be placed in order of time.
  struct Slice {
    int pid = 0;
    int lane = 0;
    Stretch stretch;
    std::string name;
    std::string args;  // JSON
    // Nested inside, back to back.
    std::vector<std::pair<const char*, Stretch>> parts;
    const TracedRound* round = nullptr;
    const TracedRollout* rollout = nullptr;
  };

  std::string Microseconds(int64_t ns) const { return absl::StrFormat("%d.%03d", ns / 1000, ns % 1000); }
  std::string At(int64_t ns) const { return Microseconds(std::max<int64_t>(ns - timeline_.first_event_ns, 0)); }

  void Append(const std::string& event) { absl::StrAppend(&events_, events_.empty() ? "" : ",\n", event); }

  void WriteSlice(int pid, int tid, const Stretch& stretch, const std::string& name, const std::string& args) {
    Append(absl::StrCat("{\"ph\":\"X\",\"pid\":", pid, ",\"tid\":", tid, ",\"ts\":", At(stretch.begin_ns),
                        ",\"dur\":", Microseconds(stretch.end_ns - stretch.begin_ns), ",\"name\":",
                        Safe(ordered_json(name)), ",\"args\":", args, "}"));
  }

  void Collect() {
    for (const TracedRound& round : timeline_.rounds) CollectRound(round);
    for (const TracedState& wait : timeline_.waits) {
      slices_.push_back({pids_[wait.worker], kRounds, wait.stretch, "wait", "{}"});
    }
    for (const TracedState& behind : timeline_.catch_ups) {
      slices_.push_back({pids_[behind.worker], kCatchUp, behind.stretch, "catch-up", "{}"});
    }
    for (const TracedRollout& rollout : timeline_.rollouts) CollectRollout(rollout);
    std::stable_sort(slices_.begin(), slices_.end(), [](const Slice& a, const Slice& b) {
      return std::tie(a.stretch.begin_ns, b.stretch.end_ns) < std::tie(b.stretch.begin_ns, a.stretch.end_ns);
    });
  }

  ordered_json ArgsOf(const TracedRound& round) const {
    ordered_json args = {{"round", round.id}, {"what", DescribeRound(round)}};
    ordered_json items = ordered_json::array();
    for (const TracedItem& item : round.items) {
      const auto request = timeline_.requests.find(item.stream);
      if (request == timeline_.requests.end()) continue;
      ordered_json each = {{"request", request->second}};
      if (item.is_prefill) {
        each["prompt_tokens"] = item.rows;
      } else {
        each["window"] = item.window;
        each["accepted"] = item.num_accepted;
        if (item.beginning.hit_depth > 0) each["hit_depth"] = item.beginning.hit_depth;
        if (item.beginning.miss.has_value()) {
          each["miss"] = scheduler::BranchMissReasonName(*item.beginning.miss);
        }
        const std::string began = journal::Describe(item.beginning);
        if (!began.empty()) each["began_with"] = began;
      }
      items.push_back(std::move(each));
    }
    args["requests"] = std::move(items);
    return args;
  }

  void CollectRound(const TracedRound& round) {
    if (round.done_ns == 0) return;
    const int pid = pids_[round.verifier];
    Slice slice{pid, kRounds, {round.begin_ns(), round.done_ns}, absl::StrCat("round ", round.id),
                Safe(ArgsOf(round))};
    slice.round = &round;
    int64_t at = round.begin_ns();
    const auto part = [&](const char* name, int64_t ns) {
      if (ns > 0) slice.parts.push_back({name, {at, at + ns}});
      at += ns;
    };
    part("prefix", round.times.prefix_ns);
    part("exit head", round.times.exit_head_ns);
    part("suffix", round.times.suffix_ns);
    part("sample", round.times.sample_ns);
    slices_.push_back(std::move(slice));
    if (round.times.queue_ns == 0) return;
    slices_.push_back({pid, kQueue, {round.begin_ns() - round.times.queue_ns, round.begin_ns()},
                       absl::StrCat("queue ", round.id), "{}"});
  }

  void CollectRollout(const TracedRollout& rollout) {
    if (!rollout.answered) return;
    const ordered_json args = {{"round", rollout.round},       {"sequences", rollout.sequences.size()},
                               {"branches", rollout.num_branches}, {"tokens", rollout.num_tokens},
                               {"asked_us", Microseconds(rollout.asked_ns - timeline_.first_event_ns)}};
    Slice slice{pids_[rollout.draft], kFirstRollout + static_cast<int>(rollout.kind), rollout.computing,
                absl::StrCat(RolloutKindName(rollout.kind), " ", rollout.round), Safe(args)};
    slice.rollout = &rollout;
    slices_.push_back(std::move(slice));
    if (!rollout.relay_ns.has_value()) return;
    const int64_t begin = rollout.computing.begin_ns;
    slices_.push_back({kTransferPid, kRelay, {begin - *rollout.relay_ns, begin},
                       absl::StrCat("exit relay ", rollout.round), "{}"});
  }

  void WriteRounds() {
    for (Slice& slice : slices_) {
      if (slice.rollout != nullptr) continue;
      Stretch stretch = slice.stretch;
      const int tid = lanes_.Place(slice.pid, slice.lane, &stretch);
      WriteSlice(slice.pid, tid, stretch, slice.name, slice.args);
      for (const auto& [name, part] : slice.parts) {
        const int64_t begin = std::max(part.begin_ns, stretch.begin_ns);
        WriteSlice(slice.pid, tid, {begin, std::max(part.end_ns, begin)}, name, "{}");
      }
      if (slice.round != nullptr) rounds_[slice.round->id] = {slice.pid, tid, stretch};
    }
  }

  void WriteRollouts() {
    for (Slice& slice : slices_) {
      if (slice.rollout == nullptr) continue;
      Stretch stretch = slice.stretch;
      const int tid = lanes_.Place(slice.pid, slice.lane, &stretch);
      WriteSlice(slice.pid, tid, stretch, slice.name, slice.args);
      rollouts_[{slice.rollout->round, slice.rollout->kind}] = {slice.pid, tid, stretch};
    }
  }

  void WriteFlow(char phase, uint64_t id, const Placed& placed, int64_t ns) {
    const int64_t at = std::clamp(ns, placed.stretch.begin_ns, placed.stretch.end_ns);
    Append(absl::StrCat("{\"ph\":\"", std::string(1, phase), "\",\"id\":", id, ",\"pid\":", placed.pid, ",\"tid\":",
                        placed.tid, ",\"ts\":", At(at), ",\"cat\":\"branch\",\"name\":\"branch\"",
                        phase == 'f' ? ",\"bp\":\"e\"" : "", "}"));
  }

  // From the round that a window was drafted beside (its exit head, for P2), over the rollout, to the round that
  // began with it: one arrow for each pair of rounds and kind.
  void WriteFlows() {
    uint64_t id = 0;
    for (const TracedRound& round : timeline_.rounds) {
      std::vector<std::pair<RoundId, RolloutKind>> origins;
      for (const TracedItem& item : round.items) {
        if (item.from_round != 0) origins.emplace_back(item.from_round, item.from_kind);
      }
      std::sort(origins.begin(), origins.end());
      origins.erase(std::unique(origins.begin(), origins.end()), origins.end());
      const auto to = rounds_.find(round.id);
      for (const auto& origin : origins) {
        const auto over = rollouts_.find(origin);
        const auto from = rounds_.find(origin.first);
        if (to == rounds_.end() || over == rollouts_.end() || from == rounds_.end()) continue;
        const Placed& begun = from->second;
        const int64_t at = origin.second == RolloutKind::kFirst    ? begun.stretch.begin_ns
                           : origin.second == RolloutKind::kSerial ? begun.stretch.end_ns
                                                                   : ExitEndOf(origin.first);
        WriteFlow('s', ++id, begun, at);
        WriteFlow('t', id, over->second, over->second.stretch.begin_ns);
        WriteFlow('f', id, to->second, to->second.stretch.begin_ns);
      }
    }
  }

  int64_t ExitEndOf(RoundId id) const {
    const auto found = std::lower_bound(timeline_.rounds.begin(), timeline_.rounds.end(), id,
                                        [](const TracedRound& round, RoundId wanted) { return round.id < wanted; });
    return found != timeline_.rounds.end() && found->id == id ? found->exit_end_ns() : 0;
  }

  void WriteName(const char* what, int pid, int tid, const std::string& name) {
    Append(absl::StrCat("{\"ph\":\"M\",\"pid\":", pid, ",\"tid\":", tid, ",\"ts\":0,\"name\":\"", what,
                        "\",\"args\":{\"name\":", Safe(ordered_json(name)), "}}"));
  }

  void WriteNames() {
    std::map<int, std::string> processes;
    for (const TracedWorker& worker : timeline_.workers) {
      processes[pids_[worker.connection]] = absl::StrCat(worker.is_draft ? "draft " : "verifier ", worker.name,
                                                         " (connection ", worker.connection, ")");
    }
    processes[kTransferPid] = "transfers";
    std::map<int, bool> shown;
    for (const auto& [place, slots] : lanes_.all()) {
      const auto& [pid, lane] = place;
      if (!std::exchange(shown[pid], true)) WriteName("process_name", pid, 0, processes[pid]);
      for (size_t slot = 0; slot < slots.size(); ++slot) {
        WriteName("thread_name", pid, lane * 100 + static_cast<int>(slot), kLaneNames[lane]);
      }
    }
  }

  const Timeline& timeline_;
  std::map<ConnectionId, int> pids_;
  std::vector<Slice> slices_;
  Lanes lanes_;
  std::map<RoundId, Placed> rounds_;
  std::map<std::pair<RoundId, RolloutKind>, Placed> rollouts_;
  std::string events_;
};

}  // namespace

std::string ChromeTraceText(const Timeline& timeline) { return Writer(timeline).Text(); }

}  // namespace mirrorsd::trace
