// Purpose: how near the ops of the CPU backend come to what this machine can do. Every figure stands
// beside limits that the same run measures: a stream read of weights (GB/s) and fused multiply-adds that
// never leave the registers (GFLOP/s), both on the same number of threads.
//
//   ops_bench [--benchmark_filter=...] [--threads=N]
//
// `weights_GB/s` counts the weight's bytes once per call, `GFLOP/s` two per weight and row; `of_read` and `of_fma`
// are the shares of the limits.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "workers/engine/backend/backends.h"
#include "workers/engine/limits/machine_limits.h"
#include "workers/engine/tensor/aligned_memory.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine {
namespace {

int32_t g_threads = 2;

const MachineLimits& Limits() {
  static const MachineLimits limits = MeasureMachineLimits(g_threads);
  return limits;
}

Backend& TheBackend() {
  static const std::unique_ptr<Backend> backend = [] {
    BackendOptions options;
    options.num_threads = g_threads;
    absl::StatusOr<std::unique_ptr<Backend>> made = CreateBackend("cpu", options);
    CHECK(made.ok()) << made.status().ToString();
    return *std::move(made);
  }();
  return *backend;
}

Buffer MakeBuffer(int64_t elements) {
  absl::StatusOr<Buffer> buffer = TheBackend().Allocate(elements * static_cast<int64_t>(sizeof(float)));
  CHECK(buffer.ok());
  std::vector<float> values(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) values[i] = static_cast<float>(i * 7919 % 2001 - 1000) * 1e-3f;
  TheBackend().CopyToDevice(values, buffer->f32());
  return *buffer;
}

// Several weights of one shape, more in all than the caches hold, used in turn as the layers of a model are.
struct Weights {
  Weights(int64_t outputs, int64_t inputs, DType dtype) {
    const int64_t bytes = outputs * inputs * static_cast<int64_t>(DTypeBytes(dtype));
    const int64_t count = std::max<int64_t>(1, (int64_t{192} << 20) / bytes);
    memory = AllocateAligned(bytes * count);
    CHECK(memory != nullptr);
    auto* data = static_cast<unsigned char*>(memory.get());
    for (int64_t i = 0; i < outputs * inputs * count; ++i) {
      StoreF32(static_cast<float>(i * 7919 % 2001 - 1000) * 1e-3f, dtype, data, i);
    }
    for (int64_t i = 0; i < count; ++i) {
      const HostMatrix view = HostMatrix::Of(data + i * bytes, dtype, outputs, inputs);
      absl::StatusOr<std::unique_ptr<Weight>> weight = TheBackend().LoadWeight({view});
      CHECK(weight.ok());
      weights.push_back(*std::move(weight));
    }
  }
  std::shared_ptr<void> memory;
  std::vector<std::unique_ptr<Weight>> weights;
};

void BenchLinear(benchmark::State& state, DType dtype, int64_t inputs, int64_t outputs) {
  const int64_t rows = state.range(0);
  const Weights weights(outputs, inputs, dtype);
  const Buffer x = MakeBuffer(rows * inputs);
  const Buffer out = MakeBuffer(rows * outputs);
  size_t next = 0;
  for (auto _ : state) {
    TheBackend().Linear(x.AsMatrix(rows, inputs), *weights.weights[next], nullptr,
                        out.AsMatrix(rows, outputs));
    next = (next + 1) % weights.weights.size();
  }
  const double calls = static_cast<double>(state.iterations());
  const double bytes = static_cast<double>(inputs * outputs) * static_cast<double>(DTypeBytes(dtype));
  const double flops = 2.0 * static_cast<double>(inputs * outputs * rows);
  const auto rate = [](double value) {
    return benchmark::Counter(value, benchmark::Counter::kIsRate);
  };
  state.counters["weights_GB/s"] = rate(bytes * calls * 1e-9);
  state.counters["GFLOP/s"] = rate(flops * calls * 1e-9);
  state.counters["of_read"] = rate(bytes * calls * 1e-9 / Limits().read_gb_per_s);
  state.counters["of_fma"] = rate(flops * calls * 1e-9 / Limits().fma_gflop_per_s);
}

// One layer's attention: `rows` new tokens of one sequence, or one token of each of `sequences`.
void BenchAttention(benchmark::State& state, int32_t rows, int32_t sequences) {
  const int32_t context = static_cast<int32_t>(state.range(0));
  constexpr int32_t kHeads = 14, kKvHeads = 2, kDim = 64, kBlock = 16;
  const int32_t blocks = (context + rows + kBlock - 1) / kBlock;
  auto pool = TheBackend().AllocateKv({1, blocks * sequences, kBlock, kKvHeads, kDim});
  CHECK(pool.ok());
  std::vector<BlockId> table(static_cast<size_t>(blocks) * sequences);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<BlockId>(i);
  std::vector<int32_t> positions, slots;
  std::vector<BatchSequence> parts;
  for (int32_t s = 0; s < sequences; ++s) {
    parts.push_back({rows, absl::MakeConstSpan(table).subspan(s * blocks, blocks)});
    for (int32_t t = 0; t < rows; ++t) {
      positions.push_back(context + t);
      slots.push_back(s * blocks * kBlock + context + t);
    }
  }
  const int64_t total = int64_t{rows} * sequences;
  const auto batch = TheBackend().PrepareBatch({positions, slots, parts, {}, {}});
  const Buffer q = MakeBuffer(total * kHeads * kDim);
  const Buffer out = MakeBuffer(total * kHeads * kDim);
  for (auto _ : state) {
    TheBackend().Attention(*batch, {kHeads, 0.125f, 0}, q.AsMatrix(total, kHeads * kDim), 0, **pool,
                           out.AsMatrix(total, kHeads * kDim));
  }
  const double calls = static_cast<double>(state.iterations());
  const double keys = (context + (rows + 1) * 0.5) * static_cast<double>(total);
  const double flops = 4.0 * keys * kHeads * kDim;
  const double bytes = 8.0 * (context + rows) * sequences * kKvHeads * kDim;
  const auto rate = [](double value) {
    return benchmark::Counter(value, benchmark::Counter::kIsRate);
  };
  state.counters["kv_GB/s"] = rate(bytes * calls * 1e-9);
  state.counters["GFLOP/s"] = rate(flops * calls * 1e-9);
  state.counters["of_fma"] = rate(flops * calls * 1e-9 / Limits().fma_gflop_per_s);
}

void BenchRmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(0);
  constexpr int64_t kHidden = 896;
  const Buffer x = MakeBuffer(rows * kHidden), residual = MakeBuffer(rows * kHidden);
  const Buffer out = MakeBuffer(rows * kHidden), weight = MakeBuffer(kHidden);
  const Matrix sum = residual.AsMatrix(rows, kHidden);
  for (auto _ : state) {
    TheBackend().RmsNorm(x.AsMatrix(rows, kHidden), weight, 1e-6f, &sum, out.AsMatrix(rows, kHidden));
  }
}

void BenchSiluMul(benchmark::State& state) {
  const int64_t rows = state.range(0);
  constexpr int64_t kWidth = 4864;
  const Buffer gate_up = MakeBuffer(rows * 2 * kWidth), out = MakeBuffer(rows * kWidth);
  const Matrix both = gate_up.AsMatrix(rows, 2 * kWidth);
  for (auto _ : state) {
    TheBackend().SiluMul(both.Cols(0, kWidth), both.Cols(kWidth, 2 * kWidth), out.AsMatrix(rows, kWidth));
  }
}

void BenchTopK(benchmark::State& state) {
  constexpr int64_t kVocabulary = 151936;
  const Buffer logits = MakeBuffer(kVocabulary);
  std::vector<int32_t> columns(8);
  std::vector<float> values(8);
  for (auto _ : state) {
    TheBackend().TopK(logits.AsMatrix(1, kVocabulary), 8, absl::MakeSpan(columns), absl::MakeSpan(values));
  }
}

void Register() {
  // The shapes of a 0.5B model: hidden 896, intermediate 4,864.
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const auto& [name, inputs, outputs] :
         {std::tuple{"gate_up_896x9728", 896, 9728}, std::tuple{"down_4864x896", 4864, 896}}) {
      auto* bench = benchmark::RegisterBenchmark(
          (std::string("Linear/") + name + "/" + DTypeName(dtype)).c_str(),
          [dtype = dtype, inputs = inputs, outputs = outputs](benchmark::State& state) {
            BenchLinear(state, dtype, inputs, outputs);
          });
      for (const int64_t rows : {1, 2, 4, 8, 16, 64, 256}) bench->Arg(rows);
      bench->UseRealTime();
    }
  }
  const auto attention = [](const char* name, int32_t rows, int32_t sequences) {
    benchmark::RegisterBenchmark(name, [rows, sequences](benchmark::State& state) {
      BenchAttention(state, rows, sequences);
    })->Arg(256)->Arg(4096)->UseRealTime();
  };
  attention("Attention/decode_1", 1, 1);
  attention("Attention/decode_16_sequences", 1, 16);
  attention("Attention/window_8", 8, 1);
  attention("Attention/prefill_256", 256, 1);
  benchmark::RegisterBenchmark("RmsNormResidual/896", BenchRmsNorm)->Arg(1)->Arg(64)->UseRealTime();
  benchmark::RegisterBenchmark("SiluMul/4864", BenchSiluMul)->Arg(1)->Arg(64)->UseRealTime();
  benchmark::RegisterBenchmark("TopK8/151936", BenchTopK)->UseRealTime();
}

}  // namespace
}  // namespace mirrorsd::engine

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--threads=", 10) != 0) continue;
    mirrorsd::engine::g_threads = std::max(1, std::atoi(argv[i] + 10));
    std::rotate(argv + i, argv + i + 1, argv + argc);
    --argc;
    break;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  mirrorsd::engine::Register();
  const mirrorsd::engine::MachineLimits& limits = mirrorsd::engine::Limits();
  benchmark::AddCustomContext("threads", std::to_string(mirrorsd::engine::g_threads));
  benchmark::AddCustomContext("numerics", mirrorsd::engine::TheBackend().numerics());
  benchmark::AddCustomContext("read_GB/s", std::to_string(limits.read_gb_per_s));
  benchmark::AddCustomContext("fma_GFLOP/s", std::to_string(limits.fma_gflop_per_s));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
