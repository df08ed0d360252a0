#include "workers/draft/draft_batch.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "common/check.h"

namespace mirrorsd::workers {

struct DraftBatch::Joining {
  BatchPart part;
  std::unique_ptr<TreePlaces> places;
  size_t next_branch = 0;
  bool is_first = true;  // no branch of it has joined yet
  bool is_out = false;   // evicted, or no branch of it can join
};

DraftBatch::DraftBatch(DraftSequences* sequences, engine::BlockPool* pool,
                       const BatchLimits& limits, Evict evict)
    : sequences_(sequences), pool_(pool), limits_(limits), evict_(std::move(evict)) {}

int32_t DraftBatch::BlocksFor(int32_t num_tokens) const {
  return (num_tokens + pool_->block_tokens() - 1) / pool_->block_tokens();
}

DraftSequence* DraftBatch::OldestIdle(const DraftSequence* asking) const {
  DraftSequence* oldest = nullptr;
  for (auto& [id, sequence] : *sequences_) {
    if (&sequence == asking || sequence.tree().HasActive() || sequence.num_blocks() == 0) continue;
    if (oldest == nullptr || sequence.last_used_ns < oldest->last_used_ns) oldest = &sequence;
  }
  return oldest;
}

bool DraftBatch::Reserve(DraftSequence* sequence, int32_t length, bool evicts) {
  bool has_room = sequence->Reserve(length);
  while (!has_room && evicts) {
    DraftSequence* victim = OldestIdle(sequence);
    if (victim == nullptr) break;
    evict_(victim);
    has_room = sequence->Reserve(length);
  }
  return has_room;
}

// ---- rollouts -------------------------------------------------------------------------------------

std::vector<BatchPart> DraftBatch::NextRollouts(int64_t now_ns) {
  std::vector<Joining> waiting;
  for (auto& [id, sequence] : *sequences_) {
    if (sequence.tree().HasActive()) waiting.push_back({.part = {.sequence = &sequence}});
  }
  std::stable_sort(waiting.begin(), waiting.end(), [](const Joining& a, const Joining& b) {
    return a.part.sequence->round_received_ns < b.part.sequence->round_received_ns;
  });
  rows_left_ = limits_.max_rows;
  logits_left_ = limits_.max_logits_rows;
  now_ns_ = now_ns;
  bool goes_on = true;
  while (goes_on) {
    goes_on = false;
    for (Joining& joining : waiting) {
      if (rows_left_ <= 0 || logits_left_ <= 0) break;
      std::vector<Branch>& branches = joining.part.sequence->tree().branches();
      while (joining.next_branch < branches.size() &&
             branches[joining.next_branch].has_ended) {
        ++joining.next_branch;
      }
      if (joining.is_out || joining.next_branch == branches.size()) continue;
      Branch* const branch = &branches[joining.next_branch++];
      if (branch->started_ns == 0) branch->started_ns = now_ns_;
      if (joining.is_first && !AddPath(&joining)) {
        joining.is_out = true;
        continue;
      }
      AddBranch(&joining, branch);
      joining.is_first = false;
      goes_on = true;
    }
  }
  std::vector<BatchPart> parts;
  for (Joining& joining : waiting) {
    if (joining.part.num_path_rows == 0 && joining.part.nodes.empty()) continue;
    if (joining.part.sequence->tree().HasActive()) parts.push_back(std::move(joining.part));
  }
  return parts;
}

bool DraftBatch::AddPath(Joining* joining) {
  DraftSequence* sequence = joining->part.sequence;
  if (sequence->num_blocks() == 0) sequence->AdoptCachedPrefix();
  const int32_t num_rows =
      std::min({sequence->num_pending(), rows_left_, limits_.catch_up_chunk_tokens});
  if (!Reserve(sequence, sequence->kv_length() + num_rows, true)) {
    evict_(sequence);
    return false;
  }
  joining->part.num_path_rows = num_rows;
  rows_left_ -= num_rows;
  joining->places = std::make_unique<TreePlaces>(&sequence->tree(), sequence->committed_length());
  return num_rows == sequence->num_pending();
}

void DraftBatch::AddBranch(Joining* joining, Branch* branch) {
  BatchPart& part = joining->part;
  const BranchTree& tree = part.sequence->tree();
  const NodeId wanted = tree.Wanted(*branch);
  for (const NodeId id : tree.tokens().PathTo(wanted)) {
    if (tree.tokens()[id].place != kNoPlace) continue;
    if (!AddNode(joining, branch, id)) return;
  }
  if (logits_left_ <= 0) return;
  if (wanted != tree.tokens().base()) return MarkWanted(joining, wanted);
  if (part.path_wants_logits) return;
  if (part.num_path_rows == 0) {
    if (rows_left_ <= 0) return;
    part.sequence->RepeatLast();
    part.num_path_rows = 1;
    --rows_left_;
  }
  part.path_wants_logits = true;
  --logits_left_;
}

void DraftBatch::MarkWanted(Joining* joining, NodeId id) {
  std::vector<NodeRow>& nodes = joining->part.nodes;
  auto row = std::find_if(nodes.begin(), nodes.end(),
                          [id](const NodeRow& one) { return one.node == id; });
  if (row == nodes.end()) {  // its KV is there, its logits were not computed
    if (rows_left_ <= 0) return;
    --rows_left_;
    row = nodes.insert(nodes.end(), NodeRow{id});
  }
  if (!std::exchange(row->wants_logits, true)) --logits_left_;
}

bool DraftBatch::AddNode(Joining* joining, Branch* branch, NodeId id) {
  if (rows_left_ <= 0) return false;
  if (!GivePlace(joining, *branch, id)) {
    if (joining->is_first) {
      evict_(joining->part.sequence);
      joining->is_out = true;
    } else {
      joining->part.sequence->tree().End(branch);
    }
    return false;
  }
  --rows_left_;
  joining->part.nodes.push_back({id});
  return true;
}

bool DraftBatch::GivePlace(Joining* joining, const Branch& branch, NodeId id) {
  DraftSequence* sequence = joining->part.sequence;
  TreePlaces* places = joining->places.get();
  while (!places->Give(id, sequence->home_end(), sequence->capacity())) {
    if (sequence->Reserve(sequence->capacity() + 1)) continue;
    while (!places->GiveAny(id, sequence->capacity())) {
      if (sequence->tree().LetLastGiveWay(branch)) {
        places->LookAgain();
      } else if (!joining->is_first || !Reserve(sequence, sequence->capacity() + 1, true)) {
        return false;
      }
    }
    return true;
  }
  return true;
}

// ---- catching up ----------------------------------------------------------------------------------

bool DraftBatch::IsBehind(const DraftSequence& sequence) const {
  return sequence.is_complete() && !sequence.tree().HasActive() &&
         (sequence.state == DraftSequenceState::kCatchingUp ||
          sequence.state == DraftSequenceState::kEvicted) &&
         sequence.committed_length() <= limits_.context_length;
}

int32_t DraftBatch::MissingBlocks(const DraftSequence& sequence) const {
  // The whole of it and a rollout: begun and driven out again would be work for nothing.
  return BlocksFor(sequence.committed_length() + limits_.max_depth) - sequence.num_blocks();
}

bool DraftBatch::HasRoomFor(const DraftSequence& sequence) const {
  return MissingBlocks(sequence) <= pool_->num_available();
}

bool DraftBatch::IsVictim(const DraftSequence& sequence, const DraftSequence& asking,
                          int64_t idle_before_ns) const {
  return !sequence.tree().HasActive() && sequence.num_blocks() > 0 &&
         sequence.last_used_ns < idle_before_ns &&
         std::pair(sequence.last_used_ns, sequence.id()) <
             std::pair(asking.last_used_ns, asking.id());
}

bool DraftBatch::CanMakeRoomFor(const DraftSequence& sequence, int64_t idle_before_ns) const {
  const int32_t missing = MissingBlocks(sequence) - pool_->num_available();
  if (missing <= 0) return true;
  int32_t num_freed = 0;
  absl::flat_hash_map<BlockId, int32_t> held;
  for (const auto& [id, victim] : *sequences_) {
    if (!IsVictim(victim, sequence, idle_before_ns)) continue;
    for (const BlockId block : victim.block_table()) {
      num_freed += ++held[block] == pool_->reference_count(block) ? 1 : 0;
    }
    if (num_freed >= missing) return true;
  }
  return false;
}

bool DraftBatch::CanCatchUp(int64_t idle_before_ns) const {
  return std::any_of(sequences_->begin(), sequences_->end(), [&](const auto& one) {
    return IsBehind(one.second) && CanMakeRoomFor(one.second, idle_before_ns);
  });
}

std::vector<BatchPart> DraftBatch::NextCatchUp(int64_t idle_before_ns) {
  std::vector<DraftSequence*> behind;
  for (auto& [id, sequence] : *sequences_) {
    if (IsBehind(sequence)) behind.push_back(&sequence);
  }
  std::stable_sort(behind.begin(), behind.end(), [](DraftSequence* a, DraftSequence* b) {
    return a->num_pending() < b->num_pending();
  });
  std::vector<BatchPart> parts;
  int32_t rows_left = std::min(limits_.max_rows, limits_.catch_up_chunk_tokens);
  for (DraftSequence* sequence : behind) {
    if (!CanMakeRoomFor(*sequence, idle_before_ns)) continue;
    while (!HasRoomFor(*sequence)) {
      DraftSequence* victim = nullptr;
      for (auto& [id, other] : *sequences_) {
        if (!IsVictim(other, *sequence, idle_before_ns)) continue;
        if (victim == nullptr || other.last_used_ns < victim->last_used_ns) victim = &other;
      }
      CHECK(victim != nullptr);
      evict_(victim);
    }
    if (sequence->num_blocks() == 0) sequence->AdoptCachedPrefix();
    // The last token stays pending: it is what a round's first row is computed from.
    const int32_t num_rows = std::clamp(sequence->num_pending() - 1, 0, rows_left);
    if (!sequence->Reserve(sequence->kv_length() + num_rows)) continue;
    parts.push_back({.sequence = sequence, .num_path_rows = num_rows});
    rows_left -= num_rows;
    if (rows_left <= 0) break;
  }
  return parts;
}

}  // namespace mirrorsd::workers
