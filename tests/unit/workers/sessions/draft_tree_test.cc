// The draft's trees without an engine: sequences, blocks, places, promotion and passes over a memory that knows what
// was written where. The model is a hash of all the tokens that a row sees, in the slots in which it sees them: a row
// that reads a slot with anything else in it is found at once, and every branch is compared with the path's own
// continuation. Thousands of rounds a second, so that the rare orders come too.

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "workers/draft/branch_tree.h"
#include "workers/draft/draft_batch.h"
#include "workers/draft/draft_pass.h"
#include "workers/draft/draft_sequence.h"
#include "workers/draft/tree_places.h"

namespace mirrorsd::workers {
namespace {

constexpr TokenId kVocabulary = 10;
constexpr int32_t kContext = 90;
constexpr int32_t kBlockTokens = 16;

uint64_t Mix(uint64_t hash, TokenId token) {
  hash = (hash ^ static_cast<uint64_t>(token + 1)) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

uint64_t HashOf(absl::Span<const TokenId> path) {
  uint64_t hash = 1;
  for (const TokenId token : path) hash = Mix(hash, token);
  return hash;
}

// The model: every token, in an order that the hash of the path decides.
std::vector<Candidate> RanksAfter(uint64_t hash) {
  std::vector<Candidate> ranks;
  for (TokenId token = 0; token < kVocabulary; ++token) {
    ranks.push_back({token, static_cast<float>(Mix(hash, token) % 4093)});
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  return ranks;
}

// Memory of slots, and what a pass makes of it.
class Memory {
 public:
  explicit Memory(int32_t num_blocks) : cells_(static_cast<size_t>(num_blocks * kBlockTokens)) {}

  void Copy(absl::Span<const engine::SlotCopy> copies) {
    for (const engine::SlotCopy& copy : copies) At(copy.to) = At(copy.from);
  }

  // Hashes of the rows that asked for logits, in order.
  std::vector<uint64_t> Run(absl::Span<const engine::SequenceRows> sequences) {
    struct Row {
      size_t index = 0;
      TokenId token = 0;
      std::vector<int32_t> slots;  // of the tokens that it sees, its own last
    };
    std::vector<Row> rows;
    std::vector<size_t> with_logits;
    for (const engine::SequenceRows& sequence : sequences) {
      for (size_t t = 0; t < sequence.token_ids.size(); ++t) {
        if (static_cast<int32_t>(t) >= sequence.logits_begin) with_logits.push_back(rows.size());
        rows.push_back({rows.size(), sequence.token_ids[t], SlotsOf(sequence, t)});
      }
    }
    std::vector<uint64_t> hashes(rows.size());
    std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
      return a.slots.size() < b.slots.size();
    });
    for (const Row& row : rows) {
      uint64_t hash = 1;
      for (size_t i = 0; i + 1 < row.slots.size(); ++i) {
        hash = Mix(hash, At(row.slots[i]).token);
        EXPECT_EQ(At(row.slots[i]).hash, hash) << "position " << i << " is not what the row should see";
      }
      At(row.slots.back()) = {row.token, Mix(hash, row.token)};
      hashes[row.index] = At(row.slots.back()).hash;
    }
    for (const Row& row : rows) {
      EXPECT_EQ(At(row.slots.back()).hash, hashes[row.index]) << "two rows in one slot";
    }
    std::vector<uint64_t> result;
    for (const size_t index : with_logits) result.push_back(hashes[index]);
    return result;
  }

 private:
  struct Cell {
    TokenId token = -1;
    uint64_t hash = 0;
  };

  Cell& At(int32_t slot) { return cells_.at(static_cast<size_t>(slot)); }

  static std::vector<int32_t> SlotsOf(const engine::SequenceRows& rows, size_t t) {
    const int32_t num_paged = rows.tree == nullptr ? rows.begin + static_cast<int32_t>(t) + 1
                                                   : rows.tree->prefix_length;
    std::vector<int32_t> slots;
    for (int32_t position = 0; position < num_paged; ++position) {
      slots.push_back(rows.block_table[static_cast<size_t>(position / kBlockTokens)] * kBlockTokens +
                      position % kBlockTokens);
    }
    if (rows.tree == nullptr) return slots;
    const absl::Span<const int32_t> offsets = rows.tree->ancestor_offsets;
    for (int32_t i = offsets[t]; i < offsets[t + 1]; ++i) {
      slots.push_back(rows.tree->ancestor_slots[static_cast<size_t>(i)]);
    }
    EXPECT_EQ(slots.back(), rows.tree->slots[t]);
    return slots;
  }

  std::vector<Cell> cells_;
};

struct Scarcity {
  uint64_t seed = 1;
  int32_t num_blocks = 64;
  int32_t max_rows = 256;
  int32_t max_logits_rows = 256;
  int32_t depth = 5;
  int32_t window = 4;
};

class World {
 public:
  explicit World(const Scarcity& scarcity)
      : scarcity_(scarcity),
        random_(scarcity.seed),
        pool_(scarcity.num_blocks, kBlockTokens),
        memory_(scarcity.num_blocks),
        batch_(&sequences_, &pool_,
               {.max_rows = scarcity.max_rows,
                .max_logits_rows = scarcity.max_logits_rows,
                .catch_up_chunk_tokens = 20,
                .context_length = kContext,
                .max_depth = scarcity.depth},
               [this](DraftSequence* sequence) {
                 ++num_evicted;
                 sequence->DropKv();
                 sequence->state = DraftSequenceState::kEvicted;
               }) {}

  void Step() {
    ++now_ns_;
    if (sequences_.size() < 3 && Below(3) == 0) Start();
    if (!sequences_.empty()) {
      auto it = sequences_.begin();
      std::advance(it, Below(sequences_.size()));
      Ask(&it->second);
    }
    for (uint32_t i = Below(4); i > 0; --i) Pass();
  }

  void End() {
    for (int i = 0; i < 5000 && Pass(); ++i) {
    }
    EXPECT_FALSE(Pass()) << "work without end";
    for (const auto& [id, sequence] : sequences_) {
      EXPECT_FALSE(sequence.tree().HasActive());
    }
    sequences_.clear();
    EXPECT_EQ(pool_.num_referenced(), 0);
    EXPECT_EQ(pool_.CheckInvariants(), absl::OkStatus());
  }

  int64_t num_rows = 0, num_evicted = 0, num_known = 0, num_copies = 0, num_dead_ends = 0;

 private:
  uint32_t Below(size_t n) { return static_cast<uint32_t>(random_() % n); }
  TokenId Token() { return static_cast<TokenId>(Below(kVocabulary)); }
  std::vector<TokenId> Tokens(uint32_t most) {
    std::vector<TokenId> tokens(Below(most + 1));
    for (TokenId& token : tokens) token = Token();
    return tokens;
  }

  void Start() {
    const SequenceId id = ++last_id_;
    DraftSequence sequence({.sequence_id = id, .prompt_length = 18, .total_length = 18}, kContext,
                           &pool_);
    std::vector<TokenId> prompt(18, 3);
    for (size_t i = 16; i < 18; ++i) prompt[i] = Token();
    EXPECT_TRUE(sequence.Append({id, 0, prompt}));
    sequence.last_used_ns = now_ns_;
    sequences_.emplace(id, std::move(sequence));
    committed_[id] = prompt;
    windows_[id].clear();
  }

  void Ask(DraftSequence* sequence) {
    std::vector<TokenId>& tokens = committed_[sequence->id()];
    std::vector<TokenId>& window = windows_[sequence->id()];
    const bool is_new = sequence->last_round_id == 0 || Below(3) != 0;
    if (tokens.size() + window.size() + 14 > kContext) {
      sequences_.erase(sequence->id());
      return;
    }
    StartRollout command{.sequence_id = sequence->id(), .round_id = sequence->last_round_id};
    if (is_new) {
      ++command.round_id;
      Decide(*sequence, &tokens, &window);
    }
    command.committed_length = static_cast<int32_t>(tokens.size());
    command.path_offset = static_cast<int32_t>(Below(static_cast<size_t>(sequence->kv_length()) + 1));
    command.path_tokens.assign(tokens.begin() + command.path_offset, tokens.end());
    command.window = window;
    for (uint32_t i = 1 + Below(5); i > 0; --i) {
      RolloutRoot root{.num_accepted = static_cast<int32_t>(Below(window.size() + 1))};
      if (Below(2) == 0) {
        root.own_rank = static_cast<int32_t>(Below(kKeptRanks));
      } else {
        root.token = Token();
      }
      command.roots.push_back(root);
    }
    const int32_t depth = 1 + static_cast<int32_t>(Below(static_cast<size_t>(scarcity_.depth)));
    std::vector<RolloutRoot> refused;
    if (is_new) {
      const auto copies = sequence->BeginRound(command, depth, now_ns_, &refused);
      ASSERT_TRUE(copies.has_value());
      sequence->last_round_id = command.round_id;
      sequence->round_received_ns = now_ns_;
      num_copies += static_cast<int64_t>(copies->size());
      memory_.Copy(*copies);
    } else {
      sequence->AddRoots(command, depth, now_ns_, &refused);
    }
    sequence->last_used_ns = now_ns_;
    Check(*sequence);
  }

  void Decide(const DraftSequence& sequence, std::vector<TokenId>* tokens,
              std::vector<TokenId>* window) {
    const std::vector<Branch>& branches = sequence.tree().branches();
    std::vector<TokenId> next;
    if (!branches.empty() && Below(3) != 0) {
      const Branch& branch = branches[Below(branches.size())];
      if (branch.tip == kNoNode) return;
      std::vector<TokenId> path;
      for (const NodeId id : sequence.tree().tokens().PathTo(branch.tip)) {
        path.push_back(sequence.tree().tokens()[id].token);
      }
      const auto root = path.begin() + branch.num_accepted + 1;
      next.assign(root, root + Below(std::min<size_t>(path.end() - root, scarcity_.window) + 1));
      tokens->insert(tokens->end(), path.begin(), root);
    } else if (Below(3) != 0) {
      tokens->insert(tokens->end(), window->begin(), window->begin() + Below(window->size() + 1));
      for (uint32_t i = 1 + Below(2); i > 0; --i) tokens->push_back(Token());
    }
    if (Below(3) == 0) next = Tokens(static_cast<uint32_t>(scarcity_.window));
    *window = std::move(next);
  }

  bool Pass() {
    std::vector<BatchPart> parts = batch_.NextRollouts(++now_ns_);
    if (parts.empty()) parts = batch_.NextCatchUp(now_ns_ - 100);
    if (parts.empty()) return false;
    const DraftPass pass(parts, kVocabulary);
    int32_t rows = 0, logits = 0;
    for (const engine::SequenceRows& one : pass.rows()) {
      rows += static_cast<int32_t>(one.token_ids.size());
      logits += static_cast<int32_t>(one.token_ids.size()) - one.logits_begin;
    }
    EXPECT_LE(rows, scarcity_.max_rows);
    EXPECT_LE(logits, scarcity_.max_logits_rows);
    num_rows += rows;
    const std::vector<uint64_t> hashes = memory_.Run(pass.rows());
    EXPECT_EQ(hashes.size(), pass.owners().size());
    for (const BatchPart& part : parts) part.sequence->AdvanceKv(part.num_path_rows);
    for (size_t i = 0; i < hashes.size(); ++i) {
      const LogitsOwner& owner = pass.owners()[i];
      BranchTree& tree = parts[owner.part].sequence->tree();
      if (Below(200) == 0) {
        ++num_dead_ends;
        tree.Fail(owner.node);
      } else {
        tree.SetRanks(owner.node, RanksAfter(hashes[i]));
      }
    }
    for (const BatchPart& part : parts) {
      part.sequence->tree().Settle();
      if (!part.sequence->tree().HasActive() && part.sequence->num_pending() <= 1) {
        part.sequence->state = DraftSequenceState::kReady;
      }
      Check(*part.sequence);
    }
    return true;
  }

  void Check(const DraftSequence& sequence) {
    const TokenTree& tokens = sequence.tree().tokens();
    const std::vector<TokenId>& committed = committed_[sequence.id()];
    ASSERT_EQ(sequence.committed_length(), static_cast<int32_t>(committed.size()));
    ASSERT_EQ(tokens[tokens.base()].position, sequence.committed_length() - 1);
    std::map<int32_t, NodeId> holders;
    const auto path_to = [&](NodeId id) {
      std::vector<TokenId> path = committed;
      for (const NodeId node : tokens.PathTo(id)) path.push_back(tokens[node].token);
      return path;
    };
    for (const NodeId id : tokens.Descendants()) {
      const TreeNode& node = tokens[id];
      ASSERT_EQ(node.position, tokens[node.parent].position + 1);
      ASSERT_TRUE(node.is_live);
      if (!node.ranks.empty()) {
        const std::vector<Candidate> ranks = RanksAfter(HashOf(path_to(id)));
        ASSERT_EQ(node.ranks.front().token, ranks.front().token);
        ASSERT_EQ(node.ranks.back().token, ranks[kKeptRanks - 1].token);
      }
      if (node.place == kNoPlace) continue;
      ASSERT_TRUE(holders.emplace(node.place, id).second) << "a place twice";
      ASSERT_GE(node.place, sequence.committed_length());
      ASSERT_LT(node.place, sequence.capacity());
      ASSERT_TRUE(node.parent == tokens.base() || tokens[node.parent].place != kNoPlace);
    }
    for (const Branch& branch : sequence.tree().branches()) CheckBranch(sequence, branch, path_to);
  }

  template <typename PathTo>
  void CheckBranch(const DraftSequence& sequence, const Branch& branch, const PathTo& path_to) {
    if (branch.tip == kNoNode) return;
    std::vector<TokenId> path = path_to(branch.tip);
    const size_t begin = path.size() - static_cast<size_t>(branch.num_known);
    ASSERT_EQ(path[begin - 1], branch.root_token);
    ASSERT_EQ(begin - 1, static_cast<size_t>(sequence.committed_length() + branch.num_accepted));
    for (size_t at = begin; at < path.size(); ++at) {
      const auto before = absl::MakeConstSpan(path).first(at);
      ASSERT_EQ(path[at], RanksAfter(HashOf(before)).front().token);
      ++num_known;
    }
  }

  const Scarcity scarcity_;
  std::mt19937_64 random_;
  engine::BlockPool pool_;
  Memory memory_;
  DraftSequences sequences_;
  DraftBatch batch_;
  std::map<SequenceId, std::vector<TokenId>> committed_, windows_;
  SequenceId last_id_ = 0;
  int64_t now_ns_ = 0;
};

class DraftTree : public ::testing::TestWithParam<Scarcity> {};

TEST_P(DraftTree, EveryRowSeesItsPathAndEveryBranchFollowsIt) {
  World world(GetParam());
  for (int i = 0; i < 1500 && !HasFailure(); ++i) world.Step();
  if (!HasFailure()) world.End();
  EXPECT_GT(world.num_rows, 1500);
  EXPECT_GT(world.num_known, 1000);
  EXPECT_GT(world.num_copies, 40);
  EXPECT_GT(world.num_dead_ends, 3);
  if (GetParam().num_blocks < 20) {
    EXPECT_GT(world.num_evicted, 4);
  }
  RecordProperty("evicted", static_cast<int>(world.num_evicted));
  RecordProperty("copies", static_cast<int>(world.num_copies));
}

INSTANTIATE_TEST_SUITE_P(Worlds, DraftTree,
                         ::testing::Values(Scarcity{.seed = 1}, Scarcity{.seed = 2, .max_rows = 6},
                                           Scarcity{.seed = 3, .max_logits_rows = 1},
                                           Scarcity{.seed = 4, .num_blocks = 12},
                                           Scarcity{.seed = 5, .num_blocks = 7, .depth = 9},
                                           Scarcity{.seed = 6, .num_blocks = 9, .max_rows = 9,
                                                    .window = 7},
                                           Scarcity{.seed = 7, .depth = 12, .window = 1}));

// ---- the parts, by hand ---------------------------------------------------------------------------

TEST(BringHome, PutsAsideWhatIsInTheWay) {
  BranchTree tree(100);
  tree.Reset(9);
  tree.BeginRound({});
  EXPECT_TRUE(tree.AddRoot({.num_accepted = 0, .token = 5}, 3, 0));
  const NodeId root = tree.branches()[0].tip;
  tree.tokens().SetPlace(root, 10);
  // A path of two whose tokens lie at each other's homes (8 and 9), while another's KV lies at 10, its home.
  const HomeComing coming = BringHome(&tree, 8, {{9, 8}}, 12);
  EXPECT_EQ(coming.num_home, 2);
  EXPECT_EQ(coming.moves, (std::vector<PlaceMove>{{8, 11}, {9, 8}, {11, 9}}));
  EXPECT_EQ(tree.tokens()[root].place, 10);
}

TEST(BringHome, WithoutRoomForgetsWhatIsInTheWay) {
  BranchTree tree(100);
  tree.Reset(8);
  tree.BeginRound({});
  EXPECT_TRUE(tree.AddRoot({.num_accepted = 0, .token = 5}, 3, 0));
  const NodeId root = tree.branches()[0].tip;
  tree.tokens().SetPlace(root, 8);
  const HomeComing coming = BringHome(&tree, 8, {9}, 10);
  EXPECT_EQ(coming.num_home, 1);
  EXPECT_EQ(coming.moves, (std::vector<PlaceMove>{{9, 8}}));
  EXPECT_EQ(tree.tokens()[root].place, kNoPlace);
}

TEST(TreePlaces, OneLineIsAtHomeAndTheRestAbove) {
  BranchTree tree(100);
  tree.Reset(9);
  tree.BeginRound({{1, 2}});
  for (const RolloutRoot& root : {RolloutRoot{.num_accepted = 2, .token = 3},
                                  RolloutRoot{.num_accepted = 0, .token = 4},
                                  RolloutRoot{.num_accepted = 2, .token = 6}}) {
    EXPECT_TRUE(tree.AddRoot(root, 3, 0));
  }
  TreePlaces places(&tree, 10);
  const auto give = [&](NodeId id) {
    EXPECT_TRUE(places.Give(id, 16, 32));
    return tree.tokens()[id].place;
  };
  EXPECT_EQ(give(tree.window()[0]), 10);
  EXPECT_EQ(give(tree.window()[1]), 11);
  EXPECT_EQ(give(tree.branches()[0].tip), 12);
  EXPECT_EQ(give(tree.branches()[1].tip), 16);
  EXPECT_EQ(give(tree.branches()[2].tip), 17);
  EXPECT_TRUE(IsAtHome(tree.tokens(), tree.branches()[0].tip));
  EXPECT_FALSE(IsAtHome(tree.tokens(), tree.branches()[1].tip));
  EXPECT_EQ(places.End(), 18);
}

// In serial drafting the rejected part of a window gives its home to the outcome that took its place.
TEST(TreePlaces, WhatNoBranchNeedsGivesItsHomeAway) {
  BranchTree tree(100);
  tree.Reset(9);
  tree.BeginRound({{1, 2, 3}});
  for (int32_t i = 0; i < 3; ++i) tree.tokens().SetPlace(tree.window()[static_cast<size_t>(i)], 10 + i);
  EXPECT_TRUE(tree.AddRoot({.num_accepted = 1, .token = 7}, 3, 0));
  TreePlaces places(&tree, 10);
  EXPECT_TRUE(places.Give(tree.branches()[0].tip, 16, 32));
  EXPECT_EQ(tree.tokens()[tree.branches()[0].tip].place, 11);
  EXPECT_EQ(tree.tokens()[tree.window()[0]].place, 10);
  EXPECT_EQ(tree.tokens()[tree.window()[1]].place, kNoPlace);
  EXPECT_EQ(tree.tokens()[tree.window()[2]].place, kNoPlace);
}

}  // namespace
}  // namespace mirrorsd::workers
