#include "services/trace/strip.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mirrorsd::trace {
namespace {

constexpr int kLabelWidth = 20;
constexpr char kRolloutLetters[] = {'1', '2', 'S'};
constexpr char kLegend[] =
    "q queue  = prefix  x exit head  # suffix  s sample  . wait   1 P1  2 P2  S serial  c catch-up   > exit relay";

struct Mark {
  Stretch stretch;
  char letter = ' ';
};

// The rounds to be shown: in a row, done, and where possible none with prompt tokens among them.
std::vector<const TracedRound*> Choose(const Timeline& timeline, int num_rounds) {
  std::map<ConnectionId, std::vector<const TracedRound*>> by_verifier;
  for (const TracedRound& round : timeline.rounds) {
    if (round.done_ns != 0) by_verifier[round.verifier].push_back(&round);
  }
  std::vector<const TracedRound*> most;
  for (const auto& [connection, rounds] : by_verifier) {
    if (rounds.size() > most.size()) most = rounds;
  }
  const size_t wanted = std::min(most.size(), static_cast<size_t>(std::max(num_rounds, 1)));
  const auto num_prompts = [&](size_t first) {
    size_t count = 0;
    for (size_t i = first; i < first + wanted; ++i) {
      count += std::any_of(most[i]->items.begin(), most[i]->items.end(),
                           [](const TracedItem& item) { return item.is_prefill; });
    }
    return count;
  };
  const size_t last = most.size() - wanted;
  size_t best = last / 2;
  for (size_t distance = 0; distance <= last && num_prompts(best) > 0; ++distance) {
    for (const size_t first : {last / 2 + distance, last / 2 - std::min(distance, last / 2)}) {
      if (first <= last && num_prompts(first) < num_prompts(best)) best = first;
    }
  }
  return {most.begin() + static_cast<std::ptrdiff_t>(best),
          most.begin() + static_cast<std::ptrdiff_t>(best + wanted)};
}

class Strip {
 public:
  Strip(const Timeline& timeline, std::vector<const TracedRound*> rounds, int width)
      : timeline_(timeline), rounds_(std::move(rounds)), width_(std::max(width, 10)) {
    begin_ns_ = rounds_.front()->sent_ns;
    end_ns_ = rounds_.back()->done_ns;
    for (const TracedRound* round : rounds_) begin_ns_ = std::min(begin_ns_, round->begin_ns() - round->times.queue_ns);
    end_ns_ = std::max(end_ns_, begin_ns_ + 1);
  }

  std::string Text() {
    std::string text = absl::StrFormat("rounds %d to %d: %s, a column is %s\n", rounds_.front()->id, rounds_.back()->id,
                                       Duration(end_ns_ - begin_ns_), Duration((end_ns_ - begin_ns_) / width_));
    AppendVerifier(&text);
    for (const TracedWorker& worker : timeline_.workers) {
      if (worker.is_draft) AppendDraft(worker, &text);
    }
    AppendRelay(&text);
    AppendRuler(&text);
    absl::StrAppend(&text, kLegend, "\n\n");
    for (const TracedRound* round : rounds_) {
      absl::StrAppendFormat(&text, "round %-6d %10s  %s\n", round->id, Duration(round->done_ns - round->sent_ns),
                            DescribeRound(*round));
    }
    return text;
  }

 private:
  static std::string Duration(int64_t ns) {
    if (ns >= 1'000'000) return absl::StrFormat("%.2f ms", 1e-6 * static_cast<double>(ns));
    return absl::StrFormat("%.1f us", 1e-3 * static_cast<double>(ns));
  }

  int Column(int64_t ns) const {
    const double share = static_cast<double>(ns - begin_ns_) / static_cast<double>(end_ns_ - begin_ns_);
    return static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width_));
  }

  // Long stretches first, so that short ones are seen: each has a column at least.
  std::string Line(const std::string& label, std::vector<Mark> marks) const {
    std::string cells(static_cast<size_t>(width_), ' ');
    std::stable_sort(marks.begin(), marks.end(), [](const Mark& a, const Mark& b) {
      return a.stretch.end_ns - a.stretch.begin_ns > b.stretch.end_ns - b.stretch.begin_ns;
    });
    for (const Mark& mark : marks) {
      if (mark.stretch.end_ns < begin_ns_ || mark.stretch.begin_ns > end_ns_) continue;
      const int first = std::min(Column(mark.stretch.begin_ns), width_ - 1);
      const int last = std::max(Column(mark.stretch.end_ns), first + 1);
      std::fill(cells.begin() + first, cells.begin() + last, mark.letter);
    }
    const size_t end = cells.find_last_not_of(' ');
    return absl::StrFormat("%-*s |%s\n", kLabelWidth, label, cells.substr(0, end + 1));
  }

  std::string NameOf(ConnectionId connection) const {
    for (const TracedWorker& worker : timeline_.workers) {
      if (worker.connection == connection) return Short(worker.name);
    }
    return "";
  }
  // Names come from a file.
  static std::string Short(const std::string& name) { return absl::Utf8SafeCHexEscape(name).substr(0, 9); }

  void AppendVerifier(std::string* text) const {
    const ConnectionId connection = rounds_.front()->verifier;
    std::vector<Mark> marks;
    for (const TracedState& wait : timeline_.waits) {
      if (wait.worker == connection) marks.push_back({wait.stretch, '.'});
    }
    for (const TracedRound& round : timeline_.rounds) {
      if (round.verifier != connection || round.done_ns == 0) continue;
      int64_t at = round.begin_ns() - round.times.queue_ns;
      const auto add = [&](int64_t ns, char letter) {
        if (ns > 0) marks.push_back({{at, at + ns}, letter});
        at += ns;
      };
      add(round.times.queue_ns, 'q');
      add(round.times.prefix_ns, '=');
      add(round.times.exit_head_ns, 'x');
      add(round.times.suffix_ns, '#');
      add(round.times.sample_ns, 's');
    }
    absl::StrAppend(text, Line("verifier " + NameOf(connection), std::move(marks)));
  }

  // The lanes that have anything.
  void AppendDraft(const TracedWorker& draft, std::string* text) const {
    std::string label = "draft " + Short(draft.name);
    const auto append = [&](const std::string& lane, std::vector<Mark> marks) {
      std::erase_if(marks, [&](const Mark& mark) {
        return mark.stretch.end_ns < begin_ns_ || mark.stretch.begin_ns > end_ns_;
      });
      if (marks.empty()) return;
      const int room = kLabelWidth - static_cast<int>(lane.size());
      const std::string front = label.substr(0, static_cast<size_t>(room));
      absl::StrAppend(text, Line(absl::StrFormat("%-*s%s", room, front, lane), std::move(marks)));
      label.clear();
    };
    for (int kind = 0; kind < kNumRolloutKinds; ++kind) {
      std::vector<Mark> marks;
      for (const TracedRollout& rollout : timeline_.rollouts) {
        if (rollout.draft != draft.connection || !rollout.answered || static_cast<int>(rollout.kind) != kind) continue;
        marks.push_back({rollout.computing, kRolloutLetters[kind]});
      }
      append(RolloutKindName(static_cast<RolloutKind>(kind)), std::move(marks));
    }
    std::vector<Mark> marks;
    for (const TracedState& behind : timeline_.catch_ups) {
      if (behind.worker == draft.connection) marks.push_back({behind.stretch, 'c'});
    }
    append("catch-up", std::move(marks));
  }

  void AppendRelay(std::string* text) const {
    std::vector<Mark> marks;
    for (const TracedRollout& rollout : timeline_.rollouts) {
      if (!rollout.answered || !rollout.relay_ns.has_value()) continue;
      const int64_t begin = rollout.computing.begin_ns;
      marks.push_back({{begin - *rollout.relay_ns, begin}, '>'});
    }
    if (!marks.empty()) absl::StrAppend(text, Line("exit relay", std::move(marks)));
  }

  // Where each round was sent.
  void AppendRuler(std::string* text) const {
    std::string cells(static_cast<size_t>(width_) + 24, ' ');
    for (const TracedRound* round : rounds_) {
      const std::string mark = absl::StrCat("^", round->id);
      const size_t at = static_cast<size_t>(std::min(Column(round->sent_ns), width_ - 1));
      cells.replace(at, mark.size(), mark);
    }
    absl::StrAppendFormat(text, "%-*s |%s\n", kLabelWidth, "round", cells.substr(0, cells.find_last_not_of(' ') + 1));
  }

  const Timeline& timeline_;
  const std::vector<const TracedRound*> rounds_;
  const int width_;
  int64_t begin_ns_ = 0;
  int64_t end_ns_ = 0;
};

}  // namespace

std::string StripText(const Timeline& timeline, const StripOptions& options) {
  std::vector<const TracedRound*> rounds = Choose(timeline, options.num_rounds);
  if (rounds.empty()) return "";
  return Strip(timeline, std::move(rounds), options.width).Text();
}

}  // namespace mirrorsd::trace
