#pragma once
// The running digest of all actions of a life: what shows that a repetition did the same. One thread.

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "common/sha256.h"
#include "mirrorsd/internal/v1/journal.pb.h"
#include "scheduler/core/events.h"

namespace mirrorsd::journal {

class ActionDigest {
 public:
  void Add(const scheduler::Action& action);

  uint64_t num_actions() const { return num_actions_; }
  // The digest of all actions so far: 32 bytes.
  std::string Bytes() const;

 private:
  Sha256 sha_;
  uint64_t num_actions_ = 0;
  std::string scratch_;
};

}  // namespace mirrorsd::journal
