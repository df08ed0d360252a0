#include "tools/simulate/fleet/worker.h"

namespace mirrorsd::simulate {

Hello Worker::MakeHello(WorkerRole role) const {
  constexpr int kManyRows = 65;  // as many further rows as a slope is taken over
  const pacing::DeviceProfile& profile = spec_.profile;
  const double one = profile.PassSeconds(1, 1, 0);
  const double many = profile.PassSeconds(kManyRows, kManyRows, 0);
  Hello hello;
  hello.role = role;
  hello.name = spec_.name;
  hello.boot_id = "simulated";
  hello.model_name = profile.name;
  hello.model_fingerprint = role == WorkerRole::kVerifier ? "target" : "draft";
  hello.vocabulary_fingerprint = "simulated";
  hello.numerics_id = "simulated";
  hello.context_length = kContextTokens;
  hello.vocabulary_size = kVocabulary;
  hello.num_layers = profile.num_layers;
  hello.kv_block_tokens = kBlockTokens;
  hello.limits = spec_.limits;
  hello.blocks = Blocks();
  hello.step_times.base_ns = static_cast<int64_t>(one * 1e9) + spec_.host_ns;
  hello.step_times.per_row_ns = static_cast<int64_t>((many - one) / (kManyRows - 1) * 1e9);
  return hello;
}

}  // namespace mirrorsd::simulate
