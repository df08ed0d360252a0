#include "tools/simulate/fleet/draft.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/check.h"

namespace mirrorsd::simulate {

void DraftCounts::Add(const DraftCounts& other) {
  rollouts += other.rollouts;
  roots += other.roots;
  exit_rollouts += other.exit_rollouts;
  relay_ns += other.relay_ns;
  residual_ns += other.residual_ns;
  refused += other.refused;
  depths += other.depths;
  depth_ns += other.depth_ns;
  path_rows += other.path_rows;
  branch_rows += other.branch_rows;
}

void Draft::Receive(std::vector<WorkerCommand> commands) {
  for (WorkerCommand& command : commands) {
    inbox_.emplace_back(std::move(command), queue_->now_ns());
  }
  if (!busy_) Work();
}

DraftTree* Draft::Find(SequenceId id) {
  const auto found = sequences_.find(id);
  CHECK(found != sequences_.end());
  return &found->second;
}

SequenceState Draft::StateOf(SequenceId id, const DraftTree& tree) const {
  return {id, tree.is_ready ? DraftSequenceState::kReady : DraftSequenceState::kCatchingUp,
          std::min(tree.kv_length(), tree.length()), Blocks()};
}

void Draft::Start(const StartSequence& command) {
  const auto [entry, is_new] = sequences_.try_emplace(
      command.sequence_id, text_, command.sampling.seed, command.prompt_length, command.total_length);
  CHECK(is_new);
  Say({StateOf(command.sequence_id, entry->second)});
}

void Draft::Handle(const WorkerCommand& command, int64_t received_ns) {
  if (const auto* start = std::get_if<StartSequence>(&command)) {
    Start(*start);
  } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
    Find(append->sequence_id)->Append(append->offset, append->token_ids);
  } else if (const auto* rollout = std::get_if<StartRollout>(&command)) {
    RollOut(*rollout, received_ns);
  } else if (const auto* end = std::get_if<EndSequence>(&command)) {
    CHECK_EQ(sequences_.erase(end->sequence_id), 1u);
    Say({SequenceState{end->sequence_id, DraftSequenceState::kAbsent, 0, Blocks()}});
  }
}

void Draft::RollOut(const StartRollout& command, int64_t received_ns) {
  DraftTree* tree = Find(command.sequence_id);
  ++counts_.rollouts;
  counts_.roots += static_cast<int64_t>(command.roots.size());
  if (command.exit_sent_at_ns != 0) {
    ++counts_.exit_rollouts;
    counts_.relay_ns += received_ns - command.exit_sent_at_ns;
    waiting_since_ns_.push_back(received_ns);
  }
  if (!tree->Start(command, spec_.limits.max_window)) {
    ++counts_.refused;
    Reports refusal;
    for (const RolloutRoot& root : command.roots) {
      if (!root.token.has_value()) continue;
      RolloutProgress told;
      told.sequence_id = command.sequence_id;
      told.round_id = command.round_id;
      told.num_accepted = root.num_accepted;
      told.root_token = *root.token;
      told.last = true;
      refusal.push_back(std::move(told));
    }
    return Say(std::move(refusal));
  }
  tree->received_ns = queue_->now_ns();
  std::vector<RolloutProgress> known;
  tree->Advance(command.sequence_id, &known);
  if (!known.empty()) Say(Reports(known.begin(), known.end()));
}

// The next pass: a depth of all rollouts, or, where there are none, a step of catching up.
void Draft::Work() {
  while (!inbox_.empty()) {
    const auto [command, received_ns] = std::move(inbox_.front());
    inbox_.pop_front();
    Handle(command, received_ns);
  }
  taken_.clear();
  PassRows rows;
  if (spec_.catch_up_every > 0 && depths_in_a_row_ >= spec_.catch_up_every) rows = TakeCatchUp();
  const bool rolls = rows.rows == 0 && (rows = TakeRollouts()).rows > 0;
  if (rows.rows == 0) rows = TakeCatchUp();
  if (rows.rows == 0) return;
  depths_in_a_row_ = rolls ? depths_in_a_row_ + 1 : 0;
  busy_ = true;
  const int64_t begun_ns = queue_->now_ns();
  const PassTimes times = timer_.Run(begun_ns + spec_.host_ns / 2, rows, 0);
  const int64_t end_ns = times.end_ns + spec_.host_ns / 2;
  ++times_.passes;
  times_.rows += rows.rows;
  times_.busy_ns += end_ns - begun_ns;
  if (rolls) {
    ++counts_.depths;
    counts_.depth_ns += end_ns - begun_ns;
    for (const int64_t since_ns : waiting_since_ns_) counts_.residual_ns += begun_ns - since_ns;
    waiting_since_ns_.clear();
  }
  queue_->At(end_ns, [this] { Finish(); });
}

PassRows Draft::TakeRollouts() {
  std::vector<std::pair<int64_t, SequenceId>> order;
  for (const auto& [id, tree] : sequences_) {
    if (tree.is_rolling()) order.emplace_back(tree.received_ns, id);
  }
  std::sort(order.begin(), order.end());
  PassRows rows;
  for (const auto& [received_ns, id] : order) {
    if (rows.rows >= spec_.limits.max_rows) break;
    DraftTree* tree = Find(id);
    const DraftTree::Rows taken = tree->TakeRows(spec_.limits.max_rows - rows.rows);
    if (taken.total() == 0) continue;
    counts_.path_rows += taken.path;
    counts_.branch_rows += taken.branches;
    rows.rows += taken.total();
    // The last row of the path and each branch's row are asked for what comes next.
    rows.logits_rows += std::max(1, taken.branches);
    rows.kv_tokens += tree->length() + taken.total();
    taken_.push_back({id, true});
  }
  return rows;
}

// Shortest remaining first.
PassRows Draft::TakeCatchUp() {
  std::vector<std::pair<int32_t, SequenceId>> behind;
  for (const auto& [id, tree] : sequences_) {
    if (!tree.is_ready && tree.is_complete()) {
      behind.emplace_back(tree.length() - tree.kv_length(), id);
    }
  }
  std::sort(behind.begin(), behind.end());
  PassRows rows;
  for (const auto& [left, id] : behind) {
    if (rows.rows >= spec_.chunk_tokens) break;
    DraftTree* tree = Find(id);
    const DraftTree::Rows taken = tree->TakeRows(spec_.chunk_tokens - rows.rows);
    rows.rows += taken.total();
    rows.kv_tokens += tree->kv_length() + taken.total();
    taken_.push_back({id, false});
  }
  return rows;
}

void Draft::Finish() {
  busy_ = false;
  Reports reports;
  std::vector<RolloutProgress> progress;
  for (const Taken& taken : taken_) {
    DraftTree* tree = Find(taken.id);
    tree->Computed();
    if (taken.is_rolling) tree->Advance(taken.id, &progress);
    if (!tree->is_ready && tree->is_complete() && tree->kv_length() == tree->length()) {
      tree->is_ready = true;
      reports.push_back(StateOf(taken.id, *tree));
    }
  }
  for (RolloutProgress& told : progress) reports.push_back(std::move(told));
  if (!reports.empty()) Say(std::move(reports));
  Work();
}

}  // namespace mirrorsd::simulate
