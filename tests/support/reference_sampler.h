#pragma once
// The sampler once more, as plainly as it can be said: double precision, whole sorts, no shortcuts. What the
// real one is compared with, and what the exact marginals are enumerated from.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "common/ids.h"
#include "common/noise.h"
#include "common/sampling_parameters.h"

namespace mirrorsd::testing {

// Processed logits of the token after prompt + output; -infinity for what may not be chosen.
inline std::vector<double> ReferenceProcess(std::vector<double> logits,
                                            const SamplingParameters& p,
                                            const std::vector<TokenId>& end_token_ids,
                                            const std::vector<TokenId>& prompt,
                                            const std::vector<TokenId>& output) {
  const double never = -std::numeric_limits<double>::infinity();
  const int size = static_cast<int>(logits.size());
  for (const auto& [token, bias] : p.logit_bias) logits[token] += bias;
  for (int x = 0; x < size; ++x) {
    const auto in_prompt = std::count(prompt.begin(), prompt.end(), x);
    const auto in_output = std::count(output.begin(), output.end(), x);
    double& l = logits[x];
    if (in_prompt + in_output > 0) l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
    l -= double(in_output) * p.frequency_penalty;
    if (in_output > 0) l -= p.presence_penalty;
  }
  if (static_cast<int>(output.size()) < p.min_tokens) {
    for (const TokenId end : end_token_ids) logits[end] = never;
  }
  if (p.temperature == 0) return logits;
  for (double& l : logits) l /= p.temperature;

  const auto probabilities = [&] {
    const double peak = *std::max_element(logits.begin(), logits.end());
    std::vector<double> result;
    for (const double l : logits) result.push_back(std::exp(l - peak));
    const double total = std::accumulate(result.begin(), result.end(), 0.0);
    for (double& r : result) r /= total;
    return result;
  };
  if (p.min_p > 0) {
    const std::vector<double> before = probabilities();
    const double largest = *std::max_element(before.begin(), before.end());
    for (int x = 0; x < size; ++x) {
      if (before[x] < p.min_p * largest) logits[x] = never;
    }
  }
  if (p.top_k > 0 && p.top_k < size) {
    std::vector<double> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (double& l : logits) {
      if (l < sorted[p.top_k - 1]) l = never;
    }
  }
  if (p.top_p < 1) {
    const std::vector<double> before = probabilities();
    std::vector<int> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits[a] > logits[b]; });
    double mass = 0;
    for (int i = 0; i < size; ++i) {
      if (i > 0 && mass >= p.top_p) logits[order[i]] = never;
      mass += before[order[i]];
    }
  }
  return logits;
}

// The probability of each token under the processed logits.
inline std::vector<double> ReferenceProbabilities(const std::vector<double>& processed,
                                                  bool greedy) {
  const auto best = std::max_element(processed.begin(), processed.end());
  std::vector<double> result(processed.size(), 0.0);
  if (greedy) {
    result[best - processed.begin()] = 1;
    return result;
  }
  double total = 0;
  for (size_t x = 0; x < processed.size(); ++x) total += result[x] = std::exp(processed[x] - *best);
  for (double& r : result) r /= total;
  return result;
}

struct ReferenceChoice {
  TokenId token = 0;
  double margin = 0;  // of its score over the next: below rounding the choice is a matter of taste
};

inline ReferenceChoice ReferenceSample(const std::vector<double>& processed, bool greedy,
                                       const NoiseKey& key) {
  ReferenceChoice choice{.margin = std::numeric_limits<double>::infinity()};
  double best = -std::numeric_limits<double>::infinity();
  for (size_t x = 0; x < processed.size(); ++x) {
    const double noise = greedy ? 0.0 : double{GumbelNoise(key, static_cast<TokenId>(x))};
    const double score = processed[x] + noise;
    if (score > best) {
      choice = {static_cast<TokenId>(x), score - best};
      best = score;
    } else {
      choice.margin = std::min(choice.margin, best - score);
    }
  }
  return choice;
}

}  // namespace mirrorsd::testing
