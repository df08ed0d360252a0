#pragma once
// The gateway's view of its scheduler: asks how the cell fares, again and again, from a thread of its own. What
// it tells is at most an interval old. Not a health check of sockets: ready is what the scheduler says.
// Thread-safe.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "services/rpc/submit_client.h"
#include "services/wire/cell_description.h"

namespace mirrorsd::gateway {

struct CellView {
  bool reachable = false;
  std::string error;     // why not reachable
  CellDescription cell;  // the last that was told, also when not reachable any more
};

class CellWatch {
 public:
  // `client` outlives the watch. `on_answer` is called from the watch's thread after every answer.
  CellWatch(rpc::SubmitClient* client, absl::Duration interval,
            std::function<void(const CellView&)> on_answer);
  ~CellWatch();
  CellWatch(const CellWatch&) = delete;
  CellWatch& operator=(const CellWatch&) = delete;

  void Start();
  void Stop();  // idempotent; the last view stays

  std::shared_ptr<const CellView> view() const;

 private:
  void Run();

  rpc::SubmitClient* const client_;
  const absl::Duration interval_;
  const std::function<void(const CellView&)> on_answer_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const CellView> view_;  // guarded by mutex_
  bool stopped_ = false;                  // guarded by mutex_
  std::thread thread_;
};

}  // namespace mirrorsd::gateway
