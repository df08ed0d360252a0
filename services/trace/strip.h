#pragma once
// A few rounds of a timeline as text for a terminal: a line for each lane, a letter for each stretch of time, and a
// line of words for each round. Pure.

#include <string>

#include "services/trace/timeline.h"

namespace mirrorsd::trace {

struct StripOptions {
  int num_rounds = 4;  // in a row, of the verifier that has most of them, from the middle of what there is
  int width = 84;      // columns of time
};

// Empty where no round ended.
std::string StripText(const Timeline& timeline, const StripOptions& options = {});

}  // namespace mirrorsd::trace
