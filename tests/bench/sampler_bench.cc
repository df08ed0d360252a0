// Purpose: what one row of sampling costs at a vocabulary of 128,256, by kind of request; to be held
// against what the head itself costs for a row (a matrix of vocabulary times hidden size).
//
//   sampler_bench [--benchmark_filter=...]

#include <benchmark/benchmark.h>

#include <string>
#include <utility>
#include <vector>

#include "common/noise.h"
#include "workers/engine/sampling/row_ops.h"
#include "workers/engine/sampling/sampler.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kVocabulary = 128256;

// Logits as models have them: a wide bulk and a few tokens that stand out.
const std::vector<float>& Logits() {
  static const std::vector<float> logits = [] {
    std::vector<float> row(kVocabulary);
    FillGumbelRow({.seed = 3}, absl::MakeSpan(row));
    for (float& l : row) l *= 1.3f;
    for (int i = 0; i < 20; ++i) row[(i * 6007 + 11) % kVocabulary] += 12.0f;
    return row;
  }();
  return logits;
}

SamplingState MakeState(const SamplingParameters& parameters) {
  SamplingState state(parameters, {2}, 512);
  for (TokenId i = 0; i < 1024; ++i) state.Append(i * 37 % kVocabulary);
  return state;
}

void BM_NoiseRow(benchmark::State& bench) {
  std::vector<float> noise(kVocabulary);
  uint32_t position = 0;
  for (auto _ : bench) {
    FillGumbelRow({.seed = 1, .position = ++position}, absl::MakeSpan(noise));
    benchmark::DoNotOptimize(noise.data());
  }
}
BENCHMARK(BM_NoiseRow)->Unit(benchmark::kMicrosecond);

void BM_SumOfWeights(benchmark::State& bench) {
  const float peak = FindPeak(Logits()).value;
  for (auto _ : bench) benchmark::DoNotOptimize(SumSoftmaxWeights(Logits(), peak));
}
BENCHMARK(BM_SumOfWeights)->Unit(benchmark::kMicrosecond);

// Who makes something of a row: the target its token, the draft its ranking, the early exit its candidates.
enum class User { kTarget, kDraft, kExit };

void Run(benchmark::State& bench, const SamplingParameters& parameters, User user) {
  Sampler sampler(kVocabulary, 1);
  SamplingState state = MakeState(parameters);
  std::vector<float> row;
  TokenId sum = 0;
  for (auto _ : bench) {
    bench.PauseTiming();
    row = Logits();
    bench.ResumeTiming();
    if (user == User::kDraft) {
      sum += sampler.Rank(state, absl::MakeSpan(row), 64)->front().token % 7;
    } else if (user == User::kExit) {
      sum += sampler.Foresee(state, absl::MakeSpan(row), 5, 4, 64)->candidates.front().token % 7;
    } else {
      sum += *sampler.Sample(state, absl::MakeSpan(row)) % 7;
    }
    bench.PauseTiming();
    state.Append(5);  // another position: no row of noise is used twice
    bench.ResumeTiming();
  }
  benchmark::DoNotOptimize(sum);
}

const SamplingParameters kGreedy{.temperature = 0.0f};
const SamplingParameters kPlain{.temperature = 1.0f};
const SamplingParameters kPenalties{.temperature = 1.0f, .repetition_penalty = 1.1f};
const SamplingParameters kTopK{.temperature = 0.8f, .top_k = 50};
const SamplingParameters kTopP{.temperature = 0.8f, .top_p = 0.95f};
const SamplingParameters kMinP{.temperature = 0.8f, .min_p = 0.05f};
const SamplingParameters kAll{.temperature = 0.8f, .top_k = 50, .top_p = 0.95f, .min_p = 0.02f};

void RegisterAll() {
  const std::pair<const char*, SamplingParameters> kinds[] = {
      {"greedy", kGreedy}, {"plain", kPlain}, {"penalties", kPenalties}, {"top_k", kTopK},
      {"top_p", kTopP},    {"min_p", kMinP},  {"all", kAll}};
  for (const auto& [name, parameters] : kinds) {
    const std::pair<const char*, User> users[] = {
        {"target/", User::kTarget}, {"draft/", User::kDraft}, {"exit/", User::kExit}};
    for (const auto& [whose, user] : users) {
      benchmark::RegisterBenchmark(
          (std::string(whose) + name).c_str(),
          [parameters = parameters, user = user](benchmark::State& bench) {
            Run(bench, parameters, user);
          })
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace mirrorsd::engine

int main(int argc, char** argv) {
  mirrorsd::engine::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
