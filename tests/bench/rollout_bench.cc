// What a hypothesis tree costs: B branches of depth D in one tree against the same branches one by one, and what a
// promotion costs. rollout_bench [SHAPE] [CONTEXT] [DEPTH] [THREADS] [REPEATS]; SHAPE is a twin's (docs/twins.md),
// whose draft rolls out. Prints one JSON object; medians, the sides in turn.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "common/check.h"
#include "workers/draft/draft_sequence.h"
#include "workers/draft/draft_session.h"
#include "workers/engine/engine.h"
#include "workers/engine/model/twins/twin_option.h"
#include "workers/engine/tensor/clock.h"

namespace {

using namespace mirrorsd;           // NOLINT
using namespace mirrorsd::workers;  // NOLINT

class PassCounter : public engine::StepHook {
 public:
  void OnPassBegin(const engine::PassShape& shape) override {
    ++num_passes;
    num_rows += shape.num_rows;
  }
  void OnLayers(int32_t, int32_t) override {}
  void OnHead(int32_t, int32_t) override {}
  int64_t num_passes = 0, num_rows = 0;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

int64_t NowNs() { return engine::MonotonicClock().NowNs(); }

class Bench {
 public:
  Bench(const std::string& shape, int32_t context, int32_t depth, int32_t threads)
      : context_(context), depth_(depth) {
    auto spec = engine::TwinOfShape(shape);
    CHECK(spec.ok()) << spec.status();
    engine::EngineOptions options;
    options.twin = engine::TwinModel{*spec, engine::TwinRole::kDraft};
    options.num_threads = threads;
    options.num_kv_blocks = (context + 4096) / 16;
    options.max_context_length = context + 512;
    options.step_hook = counter_;
    auto created = engine::Engine::Create(options);
    CHECK(created.ok()) << created.status();
    engine_ = *std::move(created);
    session_ = std::make_unique<DraftSession>(
        engine_.get(), DraftSessionOptions{.limits = {.max_sequences = 4, .max_rows = 256, .max_window = 64}});
    for (int32_t i = 0; i < context; ++i) tokens_.push_back(i * 7 % 250);
    session_->Handle(StartSequence{.sequence_id = 1,
                                   .sampling = {.temperature = 0.0f},
                                   .prompt_length = context,
                                   .total_length = context});
    session_->Handle(AppendTokens{1, 0, tokens_});
    Drain();
  }

  // Milliseconds of B branches, in one round or in B.
  double Rollout(int32_t num_branches, bool in_one) {
    std::vector<RolloutRoot> roots;
    // Other roots than before: what is there already would not be computed again.
    for (int32_t i = 0; i < num_branches; ++i) {
      roots.push_back({.num_accepted = 0, .token = last_root_ = (last_root_ + 1) % 250});
    }
    const int64_t begin = NowNs();
    if (in_one) {
      Ask(tokens_, {}, roots);
    } else {
      for (const RolloutRoot& root : roots) Ask(tokens_, {}, {root});
    }
    return static_cast<double>(NowNs() - begin) / 1e6;
  }

  // Microseconds of a round whose branch hit: promoted, its tail said. No row is computed.
  double Promotion(int32_t num_branches) {
    Rollout(num_branches, true);
    const TokenId root = last_root_;
    const std::vector<TokenId> branch = tokens_of_[root];
    std::vector<TokenId> path = tokens_;
    path.push_back(root);
    const int64_t rows = counter_->num_rows;
    const int64_t begin = NowNs();
    Ask(path, {branch.begin(), branch.begin() + depth_ / 2},
        {{.num_accepted = depth_ / 2, .token = branch[static_cast<size_t>(depth_ / 2)]}},
        depth_ - depth_ / 2 - 1);
    const double us = static_cast<double>(NowNs() - begin) / 1e3;
    CHECK_EQ(counter_->num_rows, rows);
    // Back to the prompt for the next one.
    session_->Handle(EndSequence{1});
    session_->Handle(StartSequence{.sequence_id = 1,
                                   .sampling = {.temperature = 0.0f},
                                   .prompt_length = context_,
                                   .total_length = context_});
    session_->Handle(AppendTokens{1, 0, tokens_});
    Drain();
    return us;
  }

 private:
  void Ask(const std::vector<TokenId>& path, std::vector<TokenId> window,
           std::vector<RolloutRoot> roots, int32_t depth = 0) {
    const int32_t offset = std::min(context_ - 1, static_cast<int32_t>(path.size()));
    session_->Handle(StartRollout{.sequence_id = 1,
                                  .round_id = ++round_,
                                  .committed_length = static_cast<int32_t>(path.size()),
                                  .path_offset = offset,
                                  .path_tokens = {path.begin() + offset, path.end()},
                                  .window = std::move(window),
                                  .roots = std::move(roots),
                                  .depth = depth > 0 ? depth : depth_});
    Drain();
  }

  void Drain() {
    while (session_->HasWork()) {
      session_->Work([this](const WorkerReport& report) {
        const auto* progress = std::get_if<RolloutProgress>(&report);
        if (progress == nullptr) return;
        tokens_of_[progress->root_token].resize(static_cast<size_t>(progress->first_depth));
        auto& tokens = tokens_of_[progress->root_token];
        tokens.insert(tokens.end(), progress->token_ids.begin(), progress->token_ids.end());
      });
    }
  }

  int32_t context_;
  int32_t depth_;
  std::shared_ptr<PassCounter> counter_ = std::make_shared<PassCounter>();
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<DraftSession> session_;
  std::vector<TokenId> tokens_;
  RoundId round_ = 0;
  TokenId last_root_ = 0;
  std::map<TokenId, std::vector<TokenId>> tokens_of_;
};

// Nanoseconds that the sampler's view takes per node, going through B branches depth by depth.
double StandNs(int32_t committed, int32_t num_branches, int32_t depth) {
  engine::BlockPool pool(16, 16);
  DraftSequence sequence({.sequence_id = 1,
                          .sampling = {.repetition_penalty = 1.2f},
                          .prompt_length = committed,
                          .total_length = committed},
                         committed + 512, &pool);
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < committed; ++i) tokens.push_back(i * 31 % 50'000);
  CHECK(sequence.Append({1, 0, tokens}));
  StartRollout command{.sequence_id = 1, .committed_length = committed, .path_offset = committed};
  for (int32_t i = 0; i < num_branches; ++i) command.roots.push_back({.num_accepted = 0, .token = i});
  std::vector<RolloutRoot> refused;
  CHECK(sequence.BeginRound(command, depth, 0, &refused).has_value());
  const int64_t begin = NowNs();
  for (int32_t at = 0; at < depth; ++at) {
    for (const Branch& branch : sequence.tree().branches()) {
      sequence.StandAt(branch.tip);
      const std::vector<Candidate> ranks = {{at * 7, 1.0f}};
      sequence.tree().SetRanks(branch.tip, ranks);
    }
    sequence.tree().Settle();
  }
  return static_cast<double>(NowNs() - begin) / (num_branches * depth);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string shape = argc > 1 ? argv[1] : "small";
  const auto number = [&](int at, int otherwise) { return argc > at ? std::atoi(argv[at]) : otherwise; };
  const int32_t context = number(2, 256), depth = number(3, 6), threads = number(4, 1);
  const int repeats = number(5, 7);
  Bench bench(shape, context, depth, threads);
  bench.Rollout(1, true);
  std::printf("{\"shape\":\"%s\",\"context\":%d,\"depth\":%d,\"threads\":%d,\"repeats\":%d,\"branches\":[",
              shape.c_str(), context, depth, threads, repeats);
  bool first = true;
  for (const int32_t num_branches : {1, 2, 4, 8, 16, 32}) {
    std::vector<double> tree, serial;
    for (int i = 0; i < repeats; ++i) {
      tree.push_back(bench.Rollout(num_branches, true));
      serial.push_back(bench.Rollout(num_branches, false));
    }
    std::printf("%s{\"branches\":%d,\"tree_ms\":%.3f,\"one_by_one_ms\":%.3f,\"times\":%.2f}",
                first ? "" : ",", num_branches, Median(tree), Median(serial),
                Median(serial) / Median(tree));
    first = false;
  }
  std::vector<double> promotion;
  for (int i = 0; i < repeats; ++i) promotion.push_back(bench.Promotion(8));
  std::printf("],\"promotion_us\":%.1f,\"promotion_rows\":0,\"stand_ns\":{", Median(promotion));
  first = true;
  for (const int32_t committed : {100, 10'000}) {
    for (const int32_t at_depth : {4, 16, 64}) {
      std::vector<double> stand;
      for (int i = 0; i < repeats; ++i) stand.push_back(StandNs(committed, 16, at_depth));
      std::printf("%s\"committed %d, depth %d\":%.0f", first ? "" : ",", committed, at_depth,
                  Median(stand));
      first = false;
    }
  }
  std::printf("}}\n");
  return 0;
}
