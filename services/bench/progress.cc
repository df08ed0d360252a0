#include "services/bench/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/runtime/clock.h"

namespace mirrorsd::bench {
namespace {

constexpr absl::Duration kBarInterval = absl::Milliseconds(100);
constexpr absl::Duration kLineInterval = absl::Seconds(15);
constexpr int kBarWidth = 20;

}  // namespace

std::string ProgressText(int64_t done, int64_t total, absl::Duration elapsed) {
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const int filled = static_cast<int>(share * kBarWidth);
  std::string text = absl::StrFormat("%s%s %3.0f %% (%d of %d)", std::string(filled, '#'),
                                     std::string(kBarWidth - filled, '.'), 100 * share, done, total);
  if (done > 0 && done < total) {
    const double left = absl::ToDoubleSeconds(elapsed) * (1 - share) / share;
    absl::StrAppend(&text, ", ", left < 99 ? absl::StrFormat("%.0f s", left)
                                           : absl::StrFormat("%.0f min", left / 60),
                    " left");
  }
  return text;
}

Progress::Progress(std::string what, int64_t total)
    : what_(std::move(what)),
      total_(std::max<int64_t>(total, 1)),
      on_terminal_(isatty(STDERR_FILENO) != 0),
      started_(runtime::MonotonicNow()),
      shown_(on_terminal_ ? absl::InfinitePast() : started_) {}

Progress::~Progress() { Finish(); }

void Progress::Show(int64_t done, const std::string& now_doing) {
  const absl::Time now = runtime::MonotonicNow();
  if (now - shown_ < (on_terminal_ ? kBarInterval : kLineInterval)) return;
  shown_ = now;
  const std::string text =
      absl::StrCat(what_, " ", ProgressText(done, total_, now - started_), "  ", now_doing);
  std::fprintf(stderr, on_terminal_ ? "\r\033[K%.110s" : "%s\n", text.c_str());
  std::fflush(stderr);
  bar_is_there_ = on_terminal_;
}

void Progress::Finish() {
  if (!bar_is_there_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  bar_is_there_ = false;
}

}  // namespace mirrorsd::bench
