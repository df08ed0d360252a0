#pragma once
// The machine that a run was measured on, and how busy others kept it meanwhile. Reads /proc. Not thread-safe.

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace mirrorsd::bench {

// "AMD EPYC 7763 64-Core Processor, 2 cores, 23 GiB".
std::string MachineName();

// The cores that other processes kept busy between its making and a call: all the machine's busy time less our
// own and that of `children`. 0 where /proc tells nothing.
class OtherLoad {
 public:
  explicit OtherLoad(std::vector<pid_t> children = {});
  double Cores() const;

 private:
  struct Reading {
    double busy_s = 0;  // all processes
    double own_s = 0;   // ours and the children's
    absl::Time at;
  };
  Reading Read() const;

  const std::vector<pid_t> children_;
  const Reading start_;
};

}  // namespace mirrorsd::bench
