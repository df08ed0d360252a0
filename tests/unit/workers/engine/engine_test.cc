#include "workers/engine/engine.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/support/micro_model.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::engine {
namespace {

using testing::MicroModelOptions;

EngineOptions SmallOptions() {
  EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 32;
  options.max_rows = 64;
  return options;
}

std::unique_ptr<Engine> MakeEngine(const EngineOptions& options = SmallOptions(),
                                   const MicroModelOptions& model = {}) {
  return Engine::Create(options, testing::MakeMicroModel(model)).value();
}

std::vector<TokenId> Tokens(int count, int step) {
  std::vector<TokenId> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (7 * i + i * i * step + step) % 64;
  return tokens;
}

std::vector<float> Copy(const Logits& logits) {
  return {logits.data, logits.data + int64_t{logits.num_rows} * logits.vocabulary_size};
}

SequenceRows Rows(absl::Span<const TokenId> tokens, int32_t begin, const SequenceCache& cache) {
  SequenceRows rows;
  rows.token_ids = tokens;
  rows.begin = begin;
  rows.block_table = cache.block_table();
  return rows;
}

// Logits of all tokens, alone in a pass.
std::vector<float> Alone(Engine* engine, const std::vector<TokenId>& tokens) {
  SequenceCache cache(&engine->blocks());
  EXPECT_TRUE(cache.Reserve(static_cast<int32_t>(tokens.size())));
  return Copy(engine->Run({Rows(tokens, 0, cache)}).value());
}

TEST(Engine, TellsWhatItIs) {
  const auto engine = MakeEngine();
  const EngineInfo& info = engine->info();
  EXPECT_EQ(info.context_length, 512);
  EXPECT_EQ(info.vocabulary_size, 64);
  EXPECT_EQ(info.num_layers, 2);
  EXPECT_EQ(info.max_logits_rows, 64);
  EXPECT_EQ(info.kv_block_bytes, 2 * 2 * 16 * 2 * 8 * 4);
  EXPECT_EQ(info.model_fingerprint.size(), 64u);
  EXPECT_EQ(engine->blocks().num_free(), 32);
}

TEST(Engine, NumericsIdIsOfBackendAndWeightTypesOnly) {
  MicroModelOptions other_seed, half;
  other_seed.seed = 9;
  half.type = StoredType::kBf16;
  EngineOptions naive = SmallOptions(), threads = SmallOptions();
  naive.backend = "naive";
  threads.num_threads = 2;
  const std::string id = MakeEngine()->info().numerics_id;
  EXPECT_EQ(id, MakeEngine(SmallOptions(), other_seed)->info().numerics_id);
  EXPECT_EQ(id, MakeEngine(threads)->info().numerics_id);
  EXPECT_NE(id, MakeEngine(SmallOptions(), half)->info().numerics_id);
  EXPECT_NE(id, MakeEngine(naive)->info().numerics_id);
}

TEST(Engine, ABatchGivesEachSequenceItsOwnBits) {
  const auto engine = MakeEngine();
  std::vector<std::vector<TokenId>> prompts;
  std::vector<SequenceCache> caches;
  std::vector<SequenceRows> rows;
  for (int i = 0; i < 5; ++i) {
    prompts.push_back(Tokens(3 + 5 * (i % 3), i));
    caches.emplace_back(&engine->blocks());
    ASSERT_TRUE(caches.back().Reserve(static_cast<int32_t>(prompts.back().size())));
  }
  for (int i = 0; i < 5; ++i) rows.push_back(Rows(prompts[i], 0, caches[i]));
  rows[1].logits_begin = static_cast<int32_t>(prompts[1].size());      // an inner chunk: none
  rows[2].logits_begin = static_cast<int32_t>(prompts[2].size()) - 1;  // the last row
  const std::vector<float> batch = Copy(engine->Run(rows).value());
  size_t at = 0;
  for (int i = 0; i < 5; ++i) {
    const std::vector<float> alone = Alone(engine.get(), prompts[i]);
    const std::vector<float> wanted(alone.begin() + 64 * rows[i].logits_begin, alone.end());
    ASSERT_LE(at + wanted.size(), batch.size());
    if (wanted.empty()) continue;  // an inner chunk
    EXPECT_EQ(0, std::memcmp(wanted.data(), batch.data() + at, wanted.size() * sizeof(float))) << i;
    at += wanted.size();
  }
  EXPECT_EQ(at, batch.size());
}

TEST(Engine, ThreadsDoNotShow) {
  EngineOptions one = SmallOptions(), three = SmallOptions();
  one.num_threads = 1;
  three.num_threads = 3;
  EXPECT_EQ(Alone(MakeEngine(one).get(), Tokens(40, 1)), Alone(MakeEngine(three).get(), Tokens(40,
      1)));
}

TEST(Engine, ACachedPrefixGivesTheSameBits) {
  const auto engine = MakeEngine();
  const std::vector<TokenId> tokens = Tokens(40, 3);
  const std::vector<float> cold = Alone(engine.get(), tokens);
  SequenceCache first(&engine->blocks());
  ASSERT_EQ(first.Start(tokens), 0);
  ASSERT_TRUE(first.Reserve(40));
  ASSERT_TRUE(engine->Run({Rows(tokens, 0, first)}).ok());
  first.Commit(tokens);
  first.Clear();
  // Something else is written over the blocks that are free.
  Alone(engine.get(), Tokens(60, 5));
  SequenceCache second(&engine->blocks());
  ASSERT_EQ(second.Start(tokens), 32);
  ASSERT_TRUE(second.Reserve(40));
  const auto warm = engine->Run({Rows(absl::MakeConstSpan(tokens).subspan(32), 32, second)});
  EXPECT_EQ(Copy(*warm), std::vector<float>(cold.begin() + 32 * 64, cold.end()));
}

// Two branches over a prefix of 20 tokens: a - b - c and a - d, all rows in one pass.
TEST(Engine, ATreeRowSeesItsAncestorsOnly) {
  const auto engine = MakeEngine();
  const std::vector<TokenId> prefix = Tokens(20, 2);
  SequenceCache cache(&engine->blocks());
  ASSERT_TRUE(cache.Reserve(20));
  ASSERT_TRUE(engine->Run({Rows(prefix, 0, cache)}).ok());
  const BlockId block = engine->blocks().Allocate().value();
  const int32_t s = block * 16;
  const std::vector<TokenId> tokens = {9, 21, 33, 45};  // a, b, c, d
  const std::vector<int32_t> slots = {s, s + 1, s + 2, s + 3};
  const std::vector<int32_t> offsets = {0, 1, 3, 6, 8};
  const std::vector<int32_t> ancestors = {s, s, s + 1, s, s + 1, s + 2, s, s + 3};
  TreeRows tree{20, slots, offsets, ancestors};
  SequenceRows rows = Rows(tokens, 0, cache);
  rows.tree = &tree;
  // A plain sequence in the same pass is not disturbed.
  SequenceCache plain_cache(&engine->blocks());
  ASSERT_TRUE(plain_cache.Reserve(8));
  const std::vector<TokenId> plain = Tokens(8, 11);
  const std::vector<float> both = Copy(engine->Run({rows, Rows(plain, 0, plain_cache)}).value());
  const std::vector<float> plain_alone = Alone(engine.get(), plain);
  EXPECT_EQ(0, std::memcmp(both.data() + 4 * 64, plain_alone.data(),
      plain_alone.size() * sizeof(float)));

  const auto expect_row = [&](int row, const std::vector<TokenId>& branch) {
    std::vector<TokenId> path = prefix;
    path.insert(path.end(), branch.begin(), branch.end());
    const std::vector<float> alone = Alone(engine.get(), path);
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(both[row * 64 + i], alone[alone.size() - 64 + i]) << "row " << row;
    }
  };
  expect_row(0, {9});
  expect_row(1, {9, 21});
  expect_row(2, {9, 21, 33});
  expect_row(3, {9, 45});
  engine->blocks().Release(block);
}

TEST(Engine, APromotedBranchGoesOnFromItsCopiedKv) {
  const auto engine = MakeEngine();
  std::vector<TokenId> path = Tokens(20, 2);
  SequenceCache cache(&engine->blocks());
  ASSERT_TRUE(cache.Reserve(24));
  ASSERT_TRUE(engine->Run({Rows(path, 0, cache)}).ok());
  const BlockId block = engine->blocks().Allocate().value();
  const int32_t s = block * 16;
  const std::vector<TokenId> branch = {9, 21};
  const std::vector<int32_t> slots = {s + 5, s + 3}, offsets = {0, 1, 3}, ancestors = {s + 5,
      s + 5, s + 3};
  TreeRows tree{20, slots, offsets, ancestors};
  SequenceRows rows = Rows(branch, 0, cache);
  rows.tree = &tree;
  ASSERT_TRUE(engine->Run({rows}).ok());
  const int32_t tail = cache.block_table()[1] * 16 + 20 % 16;
  ASSERT_TRUE(engine->CopyKv({{s + 5, tail}, {s + 3, tail + 1}}).ok());
  const std::vector<TokenId> next = {50};
  const std::vector<float> after = Copy(engine->Run({Rows(next, 22, cache)}).value());
  path.insert(path.end(), {9, 21, 50});
  const std::vector<float> alone = Alone(engine.get(), path);
  for (int i = 0; i < 64; ++i) EXPECT_NEAR(after[i], alone[22 * 64 + i], 1e-4);
  EXPECT_FALSE(engine->CopyKv({{0, 32 * 16}}).ok());
  EXPECT_FALSE(engine->CopyKv({{-1, 0}}).ok());
  engine->blocks().Release(block);
}

// What a caller may get wrong with what a message told it. Nothing is begun, and the next pass runs.
TEST(Engine, RefusesABadPassByFieldAndLimit) {
  EngineOptions options = SmallOptions();
  options.max_rows = 8;
  options.max_logits_rows = 4;
  options.max_context_length = 20;
  const auto engine = MakeEngine(options);
  SequenceCache cache(&engine->blocks());
  ASSERT_TRUE(cache.Reserve(32));
  const std::vector<TokenId> good = {1, 2, 3};
  const std::vector<float> wanted = Copy(engine->Run({Rows(good, 0, cache)}).value());

  const auto refused = [&](const std::vector<SequenceRows>& rows, const std::string& field,
                           const std::string& limit) {
    const absl::Status status = engine->BeginPass(rows);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    const auto info = GetErrorInfo(status);
    ASSERT_TRUE(info.has_value());
    EXPECT_NE(info->field.find(field), std::string::npos) << status;
    EXPECT_NE(info->limit.find(limit), std::string::npos) << status;
    EXPECT_EQ(Copy(engine->Run({Rows(good, 0, cache)}).value()), wanted);
  };
  refused({}, "sequences", "1 row");
  refused({Rows({}, 0, cache)}, "sequences[0]", "1 row");
  refused({Rows(Tokens(9, 1), 0, cache)}, "sequences[0]", "8 rows");
  refused({Rows(good, 0, cache), Rows(Tokens(3, 1), 0, cache)}, "sequences[1]", "4 rows");
  refused({Rows({1, 64}, 0, cache)}, "token_ids", "0 to 63");
  refused({Rows({-1}, 0, cache)}, "token_ids", "0 to 63");
  refused({Rows(good, 18, cache)}, "begin", "context of 20");
  refused({Rows(good, -1, cache)}, "begin", "context of 20");
  refused({Rows(good, INT32_MAX, cache)}, "begin", "context of 20");
  SequenceRows rows = Rows(good, 0, cache);
  rows.logits_begin = 4;
  refused({rows}, "logits_begin", "0 to 3");
  rows.logits_begin = 0;
  rows.block_table = {};
  refused({rows}, "block_table", "1 blocks");
  const std::vector<BlockId> unknown = {32};
  rows.block_table = unknown;
  refused({rows}, "block_table", "0 to 31");
}

TEST(Engine, RefusesABadTree) {
  const auto engine = MakeEngine();
  SequenceCache cache(&engine->blocks());
  ASSERT_TRUE(cache.Reserve(16));
  const std::vector<TokenId> tokens = {1, 2};
  const auto begin = [&](int32_t prefix, std::vector<int32_t> slots, std::vector<int32_t> offsets,
                         std::vector<int32_t> ancestors) {
    TreeRows tree{prefix, slots, offsets, ancestors};
    SequenceRows rows = Rows(tokens, 0, cache);
    rows.tree = &tree;
    return engine->BeginPass({rows});
  };
  EXPECT_TRUE(begin(16, {100, 101}, {0, 1, 3}, {100, 100, 101}).ok());
  for (const absl::Status& status : {
           begin(17, {100, 101}, {0, 1, 3}, {100, 100, 101}),   // more than the table covers
           begin(-1, {100, 101}, {0, 1, 3}, {100, 100, 101}),
           begin(16, {100}, {0, 1, 3}, {100, 100, 101}),        // lists that do not fit
           begin(16, {100, 101}, {0, 3}, {100, 100, 101}),
           begin(16, {100, 101}, {0, 1, 4}, {100, 100, 101}),
           begin(16, {100, 101}, {0, 4, 3}, {100, 100, 101}),   // offsets that fall
           begin(16, {100, 101}, {0, 0, 3}, {100, 100, 101}),   // no ancestors
           begin(16, {100, 101}, {0, 1, 3}, {100, 101, 100}),   // not its own slot last
           begin(16, {100, 512}, {0, 1, 3}, {100, 100, 512}),   // no such slot
           begin(16, {-1, 101}, {0, 1, 3}, {-1, -1, 101}),
       }) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST(Engine, RefusesBadOptions) {
  const auto refused = [](EngineOptions options, const std::string& field) {
    const auto engine = Engine::Create(options, testing::MakeMicroModel({}));
    ASSERT_FALSE(engine.ok()) << field;
    ASSERT_TRUE(GetErrorInfo(engine.status()).has_value()) << engine.status();
    EXPECT_NE(GetErrorInfo(engine.status())->field.find(field),
        std::string::npos) << engine.status();
  };
  EngineOptions options = SmallOptions();
  options.max_rows = 0;
  refused(options, "max_rows");
  options = SmallOptions();
  options.max_logits_rows = 65;
  refused(options, "max_logits_rows");
  options = SmallOptions();
  options.block_tokens = 24;
  refused(options, "block_tokens");
  options = SmallOptions();
  options.num_kv_blocks = 0;
  options.kv_bytes = 100;
  refused(options, "kv_bytes");
  options = SmallOptions();
  options.num_kv_blocks = INT32_MAX;
  refused(options, "num_kv_blocks");
  options = SmallOptions();
  options.backend = "abacus";
  refused(options, "backend");
}

TEST(Engine, TellsLoadProgress) {
  EngineOptions options = SmallOptions();
  std::vector<LoadProgress> told;
  options.on_load_progress = [&](const LoadProgress& progress) { told.push_back(progress); };
  const auto engine = MakeEngine(options);
  ASSERT_EQ(told.size(), 3u + 2 * 9);
  for (size_t i = 1; i < told.size(); ++i) EXPECT_GT(told[i].bytes_done, told[i - 1].bytes_done);
  EXPECT_EQ(told.back().tensors_done, told.back().tensors_total);
  EXPECT_EQ(told.back().bytes_done, engine->info().weight_bytes);
}

}  // namespace
}  // namespace mirrorsd::engine
