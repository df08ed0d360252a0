#include "tests/support/local_cell.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/check.h"

namespace mirrorsd::testing {
namespace {

void CountAt(std::vector<int64_t>* counts, size_t row) {
  if (counts->size() <= row) counts->resize(row + 1, 0);
  ++(*counts)[row];
}

void AddTo(std::vector<int64_t>* counts, const std::vector<int64_t>& more) {
  if (counts->size() < more.size()) counts->resize(more.size(), 0);
  for (size_t i = 0; i < more.size(); ++i) (*counts)[i] += more[i];
}

}  // namespace

void CellStats::Add(const CellStats& other) {
  rounds += other.rounds;
  windows += other.windows;
  max_windows_in_round = std::max(max_windows_in_round, other.max_windows_in_round);
  max_items_in_round = std::max(max_items_in_round, other.max_items_in_round);
  mixed_rounds += other.mixed_rounds;
  cached_tokens += other.cached_tokens;
  AddTo(&accepted_at, other.accepted_at);
  AddTo(&rejected_at, other.rejected_at);
}

LocalCell::LocalCell(workers::VerifierSession* verifier, workers::DraftSession* draft)
    : verifier_(verifier), draft_(draft) {}

LocalCell::Live* LocalCell::Find(SequenceId id) {
  const auto it = std::find_if(live_.begin(), live_.end(),
                               [&](const Live& live) { return live.id == id; });
  return it == live_.end() ? nullptr : &*it;
}

void LocalCell::HearVerifier(const WorkerReport& report) {
  if (const auto* started = std::get_if<SequenceStarted>(&report)) {
    if (Live* live = Find(started->sequence_id)) live->prefilled = started->cached_length;
    stats_.cached_tokens += started->cached_length;
  } else if (const auto* done = std::get_if<VerifyDone>(&report)) {
    verify_done_ = *done;
  }
}

void LocalCell::HearDraft(const WorkerReport& report) {
  if (const auto* state = std::get_if<SequenceState>(&report)) {
    if (Live* live = Find(state->sequence_id)) {
      live->draft_ready = state->state == DraftSequenceState::kReady;
      live->draft_kv_length = state->draft_kv_length;
    }
  } else if (const auto* progress = std::get_if<RolloutProgress>(&report)) {
    Live* live = Find(progress->sequence_id);
    if (live == nullptr) return;
    CHECK_EQ(static_cast<size_t>(progress->first_depth), live->window.size());
    live->window.insert(live->window.end(), progress->token_ids.begin(),
                        progress->token_ids.end());
    if (progress->last) live->drafting = false;
  }
}

void LocalCell::Join(const std::vector<CellRequest>& requests, size_t request) {
  const CellRequest& wanted = requests[request];
  const int32_t length = static_cast<int32_t>(wanted.prompt.size());
  const StartSequence start{.sequence_id = next_sequence_id_++,
                            .sampling = wanted.sampling,
                            .end_token_ids = wanted.end_token_ids,
                            .prompt_length = length,
                            .total_length = length};
  const AppendTokens tokens{start.sequence_id, 0, wanted.prompt};
  live_.push_back({.request = request, .id = start.sequence_id, .tokens = wanted.prompt});
  verifier_->Handle(start);
  verifier_->Handle(tokens);
  if (draft_ != nullptr) {
    draft_->Handle(start);
    draft_->Handle(tokens);
  }
}

void LocalCell::Draft(const std::vector<CellRequest>& requests, const CellOptions& options) {
  for (Live& live : live_) {
    live.window.clear();
    const CellRequest& request = requests[live.request];
    const int32_t length = static_cast<int32_t>(live.tokens.size());
    const int32_t output = length - static_cast<int32_t>(request.prompt.size());
    const int32_t depth = std::min(options.window, request.max_tokens - output - 1);
    if (output == 0 || depth <= 0) continue;
    if (options.propose) {
      live.window = options.propose(live.request, live.tokens);
      live.window.resize(std::min<size_t>(live.window.size(), static_cast<size_t>(depth)));
    } else if (draft_ != nullptr && live.draft_ready) {
      // The decided outcome, as the core says it: the last committed token is the root.
      StartRollout rollout{.sequence_id = live.id,
                           .round_id = next_round_id_,
                           .committed_length = length - 1,
                           .path_offset = std::min(live.draft_kv_length, length - 1),
                           .depth = depth};
      rollout.path_tokens.assign(live.tokens.begin() + rollout.path_offset,
                                 live.tokens.end() - 1);
      rollout.roots.push_back({.num_accepted = 0, .token = live.tokens.back()});
      live.drafting = true;
      draft_->Handle(rollout);
    }
  }
  const auto drafting = [&] {
    return std::any_of(live_.begin(), live_.end(), [](const Live& l) { return l.drafting; });
  };
  if (draft_ == nullptr) return;
  while (drafting() && draft_->HasWork()) {
    draft_->Work([this](WorkerReport report) { HearDraft(report); });
  }
  CHECK(!drafting()) << "a rollout was dropped in silence";
  // Catching up has the time that a round takes: a few steps.
  for (int step = 0; step < 4 && draft_->HasWork(); ++step) {
    draft_->Work([this](WorkerReport report) { HearDraft(report); });
  }
}

void LocalCell::RunRound(const std::vector<CellRequest>& requests, const CellOptions& options) {
  StartVerify round{.round_id = next_round_id_++};
  int32_t rows = 0;
  int64_t windows = 0, chunks = 0;
  for (Live& live : live_) {
    const int32_t length = static_cast<int32_t>(live.tokens.size());
    VerifyItem item{.sequence_id = live.id, .committed_length = length};
    if (live.prefilled < length - 1 || live.tokens.size() == requests[live.request].prompt.size()) {
      item.is_prefill = true;
      item.begin = std::max(live.prefilled, 0);
      item.end = std::min(length, item.begin + options.prefill_chunk);
      rows += item.end - item.begin;
      ++chunks;
    } else {
      item.window = live.window;
      rows += 1 + static_cast<int32_t>(item.window.size());
      windows += item.window.empty() ? 0 : 1;
    }
    if (rows > options.max_rows) break;
    round.items.push_back(std::move(item));
  }
  CHECK(!round.items.empty());
  ++stats_.rounds;
  stats_.windows += windows;
  stats_.max_windows_in_round = std::max(stats_.max_windows_in_round, windows);
  stats_.max_items_in_round =
      std::max(stats_.max_items_in_round, static_cast<int64_t>(round.items.size()));
  stats_.mixed_rounds += windows > 0 && chunks > 0 ? 1 : 0;
  verify_done_.reset();
  verifier_->Handle(round);
  while (!verify_done_.has_value()) {
    CHECK(verifier_->HasWork()) << "a round was dropped in silence";
    verifier_->Work([this](WorkerReport report) { HearVerifier(report); });
  }
  const VerifyDone done = *verify_done_;
  Settle(requests, done, round);
}

void LocalCell::Settle(const std::vector<CellRequest>& requests, const VerifyDone& done,
                       const StartVerify& round) {
  CHECK_EQ(done.items.size(), round.items.size());
  for (size_t i = 0; i < done.items.size(); ++i) {
    const VerifyItemDone& item = done.items[i];
    Live* live = Find(item.sequence_id);
    CHECK(live != nullptr);
    if (item.error.has_value()) {
      if (error_.empty()) error_ = item.error->reason + ": " + item.error->message;
      live->done = true;
      continue;
    }
    live->prefilled = item.kv_length;
    if (!item.correction_token.has_value()) continue;
    const std::vector<TokenId>& window = round.items[i].window;
    std::vector<TokenId> yielded(window.begin(), window.begin() + item.num_accepted);
    yielded.push_back(*item.correction_token);
    for (int32_t row = 0; row < item.num_accepted; ++row) CountAt(&stats_.accepted_at, row);
    if (item.num_accepted < static_cast<int32_t>(window.size())) {
      CountAt(&stats_.rejected_at, item.num_accepted);
    }
    const CellRequest& request = requests[live->request];
    for (const TokenId token : yielded) {
      live->tokens.push_back(token);
      const bool ends = std::count(request.end_token_ids.begin(), request.end_token_ids.end(),
                                   token) > 0;
      if (ends || live->tokens.size() == request.prompt.size() + request.max_tokens) {
        live->done = true;
        break;
      }
    }
  }
}

std::vector<std::vector<TokenId>> LocalCell::Run(const std::vector<CellRequest>& requests,
                                                 const CellOptions& options) {
  outputs_.assign(requests.size(), {});
  size_t next = 0;
  while (next < requests.size() || !live_.empty()) {
    while (next < requests.size() && live_.size() < static_cast<size_t>(options.batch)) {
      Join(requests, next++);
    }
    Draft(requests, options);
    RunRound(requests, options);
    for (Live& live : live_) {
      if (!live.done) continue;
      outputs_[live.request].assign(
          live.tokens.begin() + static_cast<int64_t>(requests[live.request].prompt.size()),
          live.tokens.end());
      verifier_->Handle(EndSequence{live.id});
      if (draft_ != nullptr) draft_->Handle(EndSequence{live.id});
    }
    std::erase_if(live_, [](const Live& live) { return live.done; });
  }
  // What was said of the last ends.
  verifier_->Work([this](WorkerReport report) { HearVerifier(report); });
  if (draft_ != nullptr) draft_->Work([this](WorkerReport report) { HearDraft(report); });
  return outputs_;
}

}  // namespace mirrorsd::testing
