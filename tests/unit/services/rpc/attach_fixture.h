#pragma once
// Both ends of an Attach stream with scripted neighbours: a handler and a listener that write down what
// they were told.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "services/rpc/attach_client.h"
#include "services/rpc/attach_server.h"
#include "tests/unit/services/rpc/loopback.h"

namespace mirrorsd::rpc {

class RecordingHandler : public AttachHandler, public Watched {
 public:
  bool OnHello(ConnectionId connection, Hello hello) override {
    bool takes = false;  // decided before anybody hears of the hello, and may change the answer to the next
    Update([&] {
      takes = takes_hellos;
      hellos.emplace_back(connection, hello);
    });
    return takes;
  }
  bool OnReports(ConnectionId connection, Fence fence,
                 std::vector<WorkerReport> batch, Receipt receipt) override {
    bool takes = false;
    Update([&] {
      takes = takes_reports;
      if (keeps_receipts) receipts.push_back(std::move(receipt));
      ++num_batches;
      fences.push_back(fence);
      for (WorkerReport& report : batch) {
        if (std::holds_alternative<Heartbeat>(report)) ++num_heartbeats;
        reports[connection].push_back(std::move(report));
      }
    });
    return takes;
  }
  void OnDetached(ConnectionId connection, const std::string& reason) override {
    Update([&] { detached[connection].push_back(reason); });
  }

  // All guarded as Watched says.
  bool takes_hellos = true;
  bool takes_reports = true;
  bool keeps_receipts = false;  // as one that does not get round to the reports
  std::vector<std::pair<ConnectionId, Hello>> hellos;
  std::map<ConnectionId, std::vector<WorkerReport>> reports;
  std::map<ConnectionId, std::vector<std::string>> detached;
  std::vector<Fence> fences;
  std::vector<Receipt> receipts;
  int num_batches = 0;
  int num_heartbeats = 0;
};

class RecordingListener : public AttachListener, public Watched {
 public:
  void OnWelcome(const Fence& fence) override {
    Update([&] { welcomes.push_back(fence); });
  }
  bool OnCommands(const Fence& fence, std::vector<WorkerCommand> batch) override {
    bool takes = false;
    Update([&] {
      takes = takes_commands;
      ++num_batches;
      for (WorkerCommand& command : batch) commands.push_back(std::move(command));
    });
    return takes;
  }
  void OnDetached(const absl::Status& status) override {
    Update([&] { detached.push_back(status); });
    if (on_detached) on_detached();
  }

  bool takes_commands = true;  // guarded as the rest
  std::function<void()> on_detached;
  std::vector<Fence> welcomes;
  std::vector<WorkerCommand> commands;
  std::vector<absl::Status> detached;
  int num_batches = 0;
};

inline Hello TestHello(const std::string& name) {
  return {.name = name,
          .context_length = 16,
          .vocabulary_size = 8,
          .num_layers = 1,
          .kv_block_tokens = 4,
          .limits = {.max_sequences = 1, .max_rows = 8, .max_window = 4},
          .blocks = {.total = 4, .free = 4}};
}

inline AttachClientOptions TestClientOptions(ChannelFactory channel) {
  return {.channel = std::move(channel),
          .backoff = {.first = absl::Milliseconds(10), .most = absl::Milliseconds(40)},
          .random = [] { return uint64_t{0}; },
          .heartbeat_interval = absl::Seconds(100),
          .heartbeat = [] { return Heartbeat{.sent_at_ns = 1}; }};
}

}  // namespace mirrorsd::rpc
