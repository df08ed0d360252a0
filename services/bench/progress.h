#pragma once
// How far a long command has come, on standard error: a bar with the time that is left where that is a terminal,
// else a line now and then. Standard output stays free for the figures. Not thread-safe.

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace mirrorsd::bench {

class Progress {
 public:
  // `total` steps, at least 1. `what` is in front of the bar: "rounds".
  Progress(std::string what, int64_t total);
  ~Progress();  // ends the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` steps are behind us; `now_doing` is shown behind the bar.
  void Show(int64_t done, const std::string& now_doing);
  // Takes the bar away; what is printed next stands on a line of its own.
  void Finish();

 private:
  const std::string what_;
  const int64_t total_;
  const bool on_terminal_;
  const absl::Time started_;
  absl::Time shown_;
  bool bar_is_there_ = false;
};

// "#####.....  50 % (4 of 8), 12 s left"; the text of a bar or of a line.
std::string ProgressText(int64_t done, int64_t total, absl::Duration elapsed);

}  // namespace mirrorsd::bench
