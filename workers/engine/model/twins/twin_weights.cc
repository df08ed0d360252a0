#include "workers/engine/model/twins/twin_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "common/ieee_math.h"
#include "common/noise.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::engine {
namespace {

constexpr uint32_t kTwinStream = 1;  // 0 is the tokens' (common/noise.h)
constexpr float kByteSumMean = 510.0f;
constexpr float kByteSumDeviation = 147.8f;  // sqrt(4 * (256^2 - 1) / 12)
constexpr double kEmbedding = 0.5;  // size of an embedding's row
constexpr double kScores = 2.0;     // of q and of k: scores spread by its square
constexpr double kBlock = 1.5;      // what a half of a block writes, before damping
constexpr double kVector = 0.1;     // biases, and norms around 1
constexpr int kLanes = 8;           // counters at a time: a loop that compilers turn into vectors

uint64_t HashName(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

bool IsNorm(TensorRole role) {
  return role == TensorRole::kAttentionNorm || role == TensorRole::kMlpNorm ||
         role == TensorRole::kFinalNorm || role == TensorRole::kQueryNorm ||
         role == TensorRole::kKeyNorm;
}

// The words of kLanes counters from `block` on.
void Words(uint64_t seed, uint64_t name, uint64_t block, uint32_t words[kLanes][4]) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    c0[i] = static_cast<uint32_t>(block + i);
    c1[i] = static_cast<uint32_t>(name);
    c2[i] = static_cast<uint32_t>(name >> 32);
    c3[i] = kTwinStream;
  }
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t product0 = uint64_t{0xD2511F53} * c0[i];
      const uint64_t product1 = uint64_t{0xCD9E8D57} * c2[i];
      c0[i] = static_cast<uint32_t>(product1 >> 32) ^ c1[i] ^ key0;
      c2[i] = static_cast<uint32_t>(product0 >> 32) ^ c3[i] ^ key1;
      c1[i] = static_cast<uint32_t>(product1);
      c3[i] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (int i = 0; i < kLanes; ++i) {
    words[i][0] = c0[i];
    words[i][1] = c1[i];
    words[i][2] = c2[i];
    words[i][3] = c3[i];
  }
}

float ValueOf(uint32_t word, float mean, float scale) {
  const uint32_t pairs = (word & 0x00FF00FFu) + ((word >> 8) & 0x00FF00FFu);
  const uint32_t sum = (pairs + (pairs >> 16)) & 0xFFFFu;
  return ieee::MulThenAdd(static_cast<float>(static_cast<int32_t>(sum)) - kByteSumMean, scale, mean);
}

}  // namespace

TensorNoise NoiseOf(const TwinSpec& spec, const ModelConfig& config, const TensorSpec& tensor) {
  const auto rows = [&](double size) {
    return static_cast<float>(size / std::sqrt(static_cast<double>(tensor.shape.back())));
  };
  switch (tensor.role) {
    case TensorRole::kTokenEmbedding:
      return {0.0f, rows(kEmbedding)};
    case TensorRole::kHead:
      return {0.0f, rows(spec.logit_scale)};
    case TensorRole::kFinalNorm: {
      // A tied head has the embedding's size, so the norm before it makes up for that.
      const double size = config.tied_head ? spec.logit_scale / kEmbedding : 1.0;
      return {static_cast<float>(size), static_cast<float>(kVector * size)};
    }
    case TensorRole::kQuery:
    case TensorRole::kKey:
      return {0.0f, rows(kScores)};
    case TensorRole::kOutput:
    case TensorRole::kDown:
      return {0.0f, rows(kBlock * LayerDamping(spec, tensor.layer))};
    case TensorRole::kOutputBias:
    case TensorRole::kDownBias:
      return {0.0f, static_cast<float>(kVector * LayerDamping(spec, tensor.layer))};
    default:
      break;
  }
  if (tensor.shape.size() == 1) {
    return {IsNorm(tensor.role) ? 1.0f : 0.0f, static_cast<float>(kVector)};
  }
  return {0.0f, rows(1.0)};
}

void FillTwinTensor(const TwinSpec& spec, const ModelConfig& config, const TensorSpec& tensor,
                    int64_t begin, absl::Span<uint8_t> bytes) {
  CHECK_EQ(begin % 4, 0);
  const DType type = spec.type == StoredType::kF32 ? DType::kF32 : DType::kBF16;
  const int64_t element_bytes = static_cast<int64_t>(DTypeBytes(type));
  const int64_t size = static_cast<int64_t>(bytes.size()) / element_bytes;
  const TensorNoise noise = NoiseOf(spec, config, tensor);
  const float scale = noise.spread / kByteSumDeviation;
  const uint64_t name = HashName(tensor.name);
  constexpr int64_t kAtATime = 4 * kLanes;
  uint32_t words[kLanes][4];
  float values[kAtATime];
  uint16_t halves[kAtATime];
  for (int64_t done = 0; done < size; done += kAtATime) {
    Words(spec.seed, name, static_cast<uint64_t>((begin + done) / 4), words);
    for (int i = 0; i < kAtATime; ++i) values[i] = ValueOf(words[i / 4][i % 4], noise.mean, scale);
    const size_t count = static_cast<size_t>(std::min(kAtATime, size - done));
    uint8_t* const out = bytes.data() + done * element_bytes;
    if (type == DType::kF32) {
      std::memcpy(out, values, count * sizeof(float));
      continue;
    }
    for (int i = 0; i < kAtATime; ++i) halves[i] = BF16FromF32(values[i]);
    std::memcpy(out, halves, count * sizeof(uint16_t));
  }
}

}  // namespace mirrorsd::engine
