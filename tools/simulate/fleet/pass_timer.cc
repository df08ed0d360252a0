#include "tools/simulate/fleet/pass_timer.h"

namespace mirrorsd::simulate {

PassTimes PassTimer::Run(int64_t begin_ns, const PassRows& rows, int32_t exit_layer) {
  const int32_t num_layers = profile().num_layers;
  clock_.now_ns = begin_ns;
  pacer_.OnPassBegin({.num_rows = rows.rows,
                      .num_logits_rows = rows.logits_rows,
                      .num_kv_tokens = rows.kv_tokens,
                      .num_layers = num_layers});
  PassTimes times;
  if (exit_layer > 0) {
    pacer_.OnLayers(0, exit_layer);
    times.prefix_ns = clock_.now_ns;
    pacer_.OnHead(exit_layer, rows.exit_rows);
  }
  times.exit_ns = clock_.now_ns;
  pacer_.OnLayers(exit_layer, num_layers);
  pacer_.OnHead(num_layers, rows.logits_rows);
  times.end_ns = clock_.now_ns;
  if (exit_layer == 0) times.prefix_ns = times.exit_ns = begin_ns;
  return times;
}

}  // namespace mirrorsd::simulate
