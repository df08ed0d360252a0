#include "tests/sim/oracle/coverage.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mirrorsd::sim {
namespace {

struct RowText {
  const char* section;
  const char* text;
  int64_t one_in;
};

constexpr RowText kRowTexts[] = {
#define MIRRORSD_SIM_TEXT(name, section, text, one_in) {section, text, one_in},
    MIRRORSD_SIM_ROWS(MIRRORSD_SIM_TEXT)
#undef MIRRORSD_SIM_TEXT
};

// Whether a kind of fault can befall a role.
bool Applies(FaultKind kind, int role) {
  switch (kind) {
    case FaultKind::kItemError: return role == 0;
    case FaultKind::kEvict:
    case FaultKind::kForget: return role == 1;
    case FaultKind::kLie:
    case FaultKind::kStale:       // have rows of their own
    case FaultKind::kStandStill:  // befall the scheduler: likewise
    case FaultKind::kNewLife: return false;
    default: return true;
  }
}

}  // namespace

const char* LieName(Lie lie) {
  static constexpr const char* kNames[kNumLies] = {
      "num_accepted beyond the window", "num_accepted negative", "a wrong kv_length",
      "no correction_token", "a correction_token of an inner chunk",
      "a correction_token beyond the vocabulary", "num_accepted too small", "a round of the future",
      "an item that the round does not have", "a round done without all items",
      "cached_length beyond the sequence", "an unknown sequence", "a sequence ended on its own",
      "blocks that do not add up", "Hello twice", "the other role's report",
      "too many tokens", "a wrong root", "a depth left out", "a drafted token beyond the vocabulary",
      "a rollout of the future", "draft_kv_length beyond the context", "an unknown state",
      "a rollout of a row that the round does not have", "an own root beyond the vocabulary",
      "an exit that was not asked for", "an exit with other rows than the window's",
      "a drafted_score where none belongs", "more candidates than were asked for",
      "a candidate beyond the vocabulary", "the drafted token as a candidate",
      "an exit of an item that the round does not have", "an exit of a round of the future",
      "an exit's end of a round of the future"};
  return kNames[static_cast<int>(lie)];
}

const char* StaleName(Stale stale) {
  static constexpr const char* kNames[kNumStales] = {
      "another fence: an outcome", "another fence: a round's end", "another fence: a start",
      "another fence: a sequence's end", "another fence: a rollout", "another fence: absent",
      "another fence: a heartbeat", "an earlier round: an outcome", "an earlier round: its end",
      "an outcome again", "a start again", "a sequence's end again", "an earlier rollout",
      "a rollout's depth again", "a cancel again", "more of a branch that was over",
      "another fence: an exit", "an earlier round: an exit", "an earlier round: an exit's end",
      "an exit again", "an exit after its outcome"};
  return kNames[static_cast<int>(stale)];
}

void Coverage::Add(const Coverage& other) {
  for (int i = 0; i < kNumRows; ++i) rows_[i] += other.rows_[i];
  for (int i = 0; i < kNumFaultKinds; ++i) {
    for (int role = 0; role < 2; ++role) faults_[i][role] += other.faults_[i][role];
  }
  for (int i = 0; i < kNumLies; ++i) lies_[i] += other.lies_[i];
  for (int i = 0; i < kNumStales; ++i) stales_[i] += other.stales_[i];
}

std::vector<Coverage::Line> Coverage::Lines() const {
  std::vector<Line> lines;
  for (int i = 0; i < kNumRows; ++i) {
    lines.push_back({kRowTexts[i].section, kRowTexts[i].text, rows_[i], kRowTexts[i].one_in});
  }
  for (int i = 0; i < kNumFaultKinds; ++i) {
    for (int role = 0; role < 2; ++role) {
      const FaultKind kind = static_cast<FaultKind>(i);
      if (!Applies(kind, role)) continue;
      lines.push_back({"fault", absl::StrCat(FaultName(kind), role == 0 ? " verifier" : " draft"),
                       faults_[i][role], 15});
    }
  }
  for (int i = 0; i < kNumLies; ++i) {
    lines.push_back({"lie", LieName(static_cast<Lie>(i)), lies_[i], 40});
  }
  for (int i = 0; i < kNumStales; ++i) {
    lines.push_back({"stale", StaleName(static_cast<Stale>(i)), stales_[i], 40});
  }
  return lines;
}

std::string Coverage::Table(int64_t num_schedules) const {
  std::string table;
  std::string section;
  for (const Line& line : Lines()) {
    if (line.section != section) absl::StrAppend(&table, line.section, ":\n");
    section = line.section;
    absl::StrAppendFormat(&table, "  %12d  %s%s\n", line.count, line.text,
                          line.count > 0                              ? ""
                          : num_schedules >= kEnough * line.one_in ? "   NEVER MET"
                                                                      : "   (rare: too few schedules)");
  }
  return table;
}

std::vector<std::string> Coverage::Missed(int64_t num_schedules) const {
  std::vector<std::string> missed;
  for (const Line& line : Lines()) {
    if (line.count == 0 && num_schedules >= kEnough * line.one_in) {
      missed.push_back(absl::StrCat(line.section, ": ", line.text));
    }
  }
  return missed;
}

}  // namespace mirrorsd::sim
