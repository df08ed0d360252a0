#pragma once
// What a model is, in one line: equal fingerprints mean equal config, equal tensors and (by samples of every
// one of them) equal weights. Reads a bounded part of each tensor, so that a large mapped file is not read
// whole. Pure functions.

#include <string>

#include "workers/engine/model/model_config.h"
#include "workers/engine/model/opened_model.h"

namespace mirrorsd::engine {

// A config as one line of text, every field named: what the fingerprint covers of it.
std::string ConfigText(const ModelConfig& config);

// SHA-256 in hex over the config, the table (name, type, shape) and of every tensor 32 runs of 128 bytes, spread
// evenly, or all of it where it is not larger.
std::string ModelFingerprint(const OpenedModel& model);

}  // namespace mirrorsd::engine
