#pragma once
// Golden text transcripts of the scheduler core. A transcript is a file of input lines, each followed by
// what the core answered ("> ..."); running it again must give the same text. It opens with its purpose:
//   # purpose: what this scenario is for
//   config window=2 queue_timeout=1s
//   at 0ms attach v1 verifier
//   > welcome v1 incarnation=1
// README.md beside it lists the input lines. Not thread-safe.

#include <string>

#include "absl/status/statusor.h"

namespace mirrorsd::scheduler {

// Runs the input lines of `text` against a fresh core, checking its invariants after each, and returns
// the text with the answers as they are now.
// Errors:  INVALID_ARGUMENT naming the line that is not understood
absl::StatusOr<std::string> RunTranscript(const std::string& text);

}  // namespace mirrorsd::scheduler
