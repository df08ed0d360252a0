#include "tools/simulate/life/recorded_life.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "services/journal/reader.h"
#include "services/journal/replay.h"

namespace mirrorsd::simulate {
namespace {

// How often a rank was the outcome's, by rank; beyond the last: in no list.
struct Ranks {
  std::vector<int64_t> counts;
  int64_t all = 0;

  void Add(std::optional<int32_t> rank, size_t listed) {
    ++all;
    counts.resize(std::max(counts.size(), listed));
    if (rank.has_value()) ++counts[*rank];
  }
  RecallCurve Curve() const {
    std::vector<std::pair<int32_t, double>> points;
    int64_t sum = 0;
    if (all < kMinRows) return {};
    for (size_t k = 0; k < counts.size(); ++k) {
      sum += counts[k];
      points.emplace_back(static_cast<int32_t>(k) + 1, static_cast<double>(sum) / static_cast<double>(all));
    }
    return RecallCurve(std::move(points));
  }
};

class Reading {
 public:
  void See(const journal::ReplayStep& step) {
    const scheduler::Event& event = step.recorded->event;
    if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
      const int64_t at_ns = absl::ToInt64Nanoseconds(step.recorded->now - absl::UnixEpoch());
      requests_[submitted->stream] = {
          at_ns, static_cast<int32_t>(submitted->request.token_ids.size()), 0};
    } else if (const auto* reported = std::get_if<scheduler::WorkerReported>(&event)) {
      SeeReport(reported->connection, reported->item);
    }
    for (const scheduler::Action& action : step.actions) SeeAction(action);
  }

  RecordedLife Finish() {
    int64_t all_reached = 0;
    int64_t all_accepted = 0;
    for (size_t i = 0; i < reached_.size(); ++i) {
      all_reached += reached_[i];
      all_accepted += accepted_[i];
    }
    const auto share = [](int64_t a, int64_t b) { return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0; };
    for (size_t i = 0; i < reached_.size(); ++i) {
      const bool is_seen = reached_[i] >= kMinRows;
      life_.kind.acceptance.push_back(is_seen ? share(accepted_[i], reached_[i])
                                              : share(all_accepted, all_reached));
    }
    life_.kind.name = "recorded";
    life_.kind.exit_given_reject = rejects_.Curve();
    life_.kind.exit_all = bonuses_.Curve();
    life_.exit_outcomes = rejects_.all + bonuses_.all;
    for (const auto& [stream, arrival] : requests_) {
      if (arrival.output_tokens > 0) life_.load.push_back(arrival);
    }
    std::stable_sort(life_.load.begin(), life_.load.end(),
                     [](const Arrival& a, const Arrival& b) { return a.at_ns < b.at_ns; });
    if (!life_.load.empty()) {
      const int64_t first_ns = life_.load.front().at_ns;
      for (Arrival& arrival : life_.load) arrival.at_ns -= first_ns;
    }
    return std::move(life_);
  }

 private:
  using Key = std::pair<ConnectionId, SequenceId>;

  void SeeAction(const scheduler::Action& action) {
    if (const auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
      const auto* verify = std::get_if<StartVerify>(&send->command);
      if (verify == nullptr) return;
      for (const VerifyItem& item : verify->items) {
        windows_[{send->connection, item.sequence_id}] = item.window;
        exits_.erase({send->connection, item.sequence_id});
      }
    } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
      requests_[commit->stream].output_tokens +=
          static_cast<int32_t>(commit->committed.token_ids.size());
    }
  }

  void SeeReport(ConnectionId connection, const scheduler::ReportItem& item) {
    if (const auto* exit = std::get_if<scheduler::EarlyExitItemReport>(&item)) {
      exits_[{connection, exit->item.sequence_id}] = exit->item.rows;
    } else if (const auto* done = std::get_if<scheduler::VerifyItemReport>(&item)) {
      SeeOutcome({connection, done->item.sequence_id}, done->item);
    }
  }

  void SeeOutcome(const Key& key, const VerifyItemDone& done) {
    const auto window = windows_.find(key);
    if (window == windows_.end() || !done.correction_token.has_value() || done.num_accepted < 0) return;
    const size_t size = window->second.size();
    const size_t accepted = static_cast<size_t>(done.num_accepted);
    windows_.erase(window);
    if (accepted > size) return;
    reached_.resize(std::max(reached_.size(), size));
    accepted_.resize(reached_.size());
    for (size_t i = 0; i < std::min(size, accepted + 1); ++i) ++reached_[i];
    for (size_t i = 0; i < accepted; ++i) ++accepted_[i];
    life_.windows += size > 0 ? 1 : 0;
    const auto exit = exits_.find(key);
    if (exit == exits_.end() || exit->second.size() <= accepted) return;
    const std::vector<Candidate>& candidates = exit->second[accepted].candidates;
    std::optional<int32_t> rank;
    for (size_t k = 0; k < candidates.size() && !rank.has_value(); ++k) {
      if (candidates[k].token == *done.correction_token) rank = static_cast<int32_t>(k);
    }
    (accepted < size ? rejects_ : bonuses_).Add(rank, candidates.size());
    exits_.erase(exit);
  }

  RecordedLife life_;
  std::map<ConnectionId, Arrival> requests_;  // by stream
  std::map<Key, std::vector<TokenId>> windows_;  // outstanding
  std::map<Key, std::vector<EarlyExitRow>> exits_;
  std::vector<int64_t> reached_;
  std::vector<int64_t> accepted_;
  Ranks rejects_;
  Ranks bonuses_;
};

}  // namespace

absl::StatusOr<RecordedLife> LoadRecordedLife(const std::string& path) {
  auto reader = journal::JournalReader::Open(path);
  if (!reader.ok()) return reader.status();
  Reading reading;
  const auto report =
      journal::Replay(reader->get(), [&](const journal::ReplayStep& step) { reading.See(step); });
  if (!report.ok()) return report.status();
  return reading.Finish();
}

}  // namespace mirrorsd::simulate
