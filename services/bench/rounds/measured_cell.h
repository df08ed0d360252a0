#pragma once
// The cell that a benchmark asks: the one that `serve` runs, in this process or as separate ones, through its public
// API, and what its metrics say. Not a second way through: requests take every station. One thread calls;
// Stop from any.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mirrorsd/v1/inference.pb.h"
#include "services/config/options.h"

namespace mirrorsd::cell {
class Cell;
}

namespace mirrorsd::bench {

// What a request came to. Times count from when the whole batch was asked.
struct Answer {
  std::vector<int32_t> token_ids;
  v1::GenerateFinal final;
  absl::Duration first_token;
  absl::Duration last_token;
};

class MeasuredCell {
 public:
  virtual ~MeasuredCell() = default;

  // Asks all requests at once and waits for their ends; answers in the order of the requests.
  // Errors:  the first request's that failed; CANCELLED after Stop
  virtual absl::StatusOr<std::vector<Answer>> Ask(const std::vector<v1::GenerateRequest>& requests) = 0;

  // The cell's metrics as Prometheus text, everything before this call counted.
  virtual absl::StatusOr<std::string> Metrics() = 0;

  // Cancels what is being asked, now and later.
  virtual void Stop() = 0;

  // The cell, where it is in this process; null where it is not.
  virtual const cell::Cell* cell() const { return nullptr; }

  // The processes beside this one, whose work is the cell's.
  virtual std::vector<pid_t> children() const { return {}; }
};

// Starts the cell of the options and waits until it is ready with every worker; with --separate-processes the four
// programs as children.
// Errors:  those of Cell and of SeparateCell
absl::StatusOr<std::unique_ptr<MeasuredCell>> StartMeasuredCell(const config::Options& options);

}  // namespace mirrorsd::bench
