#pragma once
// A whole cell as child processes: the four role programs that lie beside this one, wired by sockets in a private
// folder, restarted with backoff when they die. Not a cell in one process (cell.h), and not the command that prints
// where it listens. Not thread-safe: one thread, the one that outlives the children (supervisor.h).

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/config/options.h"

namespace mirrorsd::cell {

// Where the gateway listens; port 0 becomes a free one.
struct ListenPlace {
  std::string host = "127.0.0.1";
  int64_t grpc_port = 0;
  int64_t http_port = 0;
};

class SeparateCell {
 public:
  // Reserves the ports; no process yet. Each child gets what `options` were given and it takes.
  // Errors:  INVALID_FIELD where it cannot listen; INTERNAL without a folder for sockets
  static absl::StatusOr<std::unique_ptr<SeparateCell>> Make(
      const config::Options& options, const ListenPlace& place,
      std::function<void(const std::string&)> tell);
  ~SeparateCell();  // kills what still lives
  SeparateCell(const SeparateCell&) = delete;
  SeparateCell& operator=(const SeparateCell&) = delete;

  const std::string& grpc_address() const;  // HOST:PORT
  const std::string& http_address() const;

  // Starts every child. Errors: INTERNAL where a process cannot be made
  absl::Status Start();
  // Looks after the children; call often. Errors: a child that ended for good; its code is fatal_exit_code()
  absl::Status Look();
  int fatal_exit_code() const;

  // Whether /readyz says so, every worker of the options having attached.
  bool IsReady() const;
  // The text of /metrics: every role's.
  absl::StatusOr<std::string> Metrics() const;
  // Of the children that run.
  std::vector<pid_t> pids() const;

  // From the outside in: the gateway lets its requests finish, then nobody needs the rest. Returns whether
  // every child ended by itself and well.
  bool Drain(absl::Duration grace);

 private:
  class State;
  explicit SeparateCell(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace mirrorsd::cell
