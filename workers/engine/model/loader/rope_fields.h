#pragma once
// RoPE as config.json tells it, in both layouts: "rope_theta" beside "rope_scaling", or "rope_parameters"
// with everything inside. Pure function.

#include "workers/engine/model/loader/config_fields.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

// Types: default, linear, llama3. Anything else is recorded in `fields` as an error that lists them.
RopeConfig ReadRope(ConfigFields* fields, int32_t max_positions);

}  // namespace mirrorsd::engine
