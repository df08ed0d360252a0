#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/cli/commands.h"
#include "services/journal/reader.h"
#include "services/journal/scenario.h"
#include "services/trace/chrome_trace.h"
#include "services/trace/strip.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd trace";

absl::StatusOr<trace::TimelineOptions> TimelineOptionsFrom(const config::Options& options) {
  trace::TimelineOptions timeline;
  timeline.request_id = options.Text("request");
  if (!options.Has("rounds")) return timeline;
  const auto stretch = journal::ParseStretch(options.Place("rounds"), options.Text("rounds"));
  if (!stretch.ok()) return stretch.status();
  timeline.first_round = stretch->first;
  timeline.last_round = stretch->second;
  return timeline;
}

absl::Status WriteTrace(const std::string& path, const trace::Timeline& timeline) {
  // A trace tells who asked what and when, as the journal does: it is the owner's alone.
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  if (!out) return BadFile(path, "cannot be written");
  std::error_code ignored;
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write,
                               ignored);
  out << trace::ChromeTraceText(timeline);
  out.close();
  return out ? absl::OkStatus() : BadFile(path, "cannot be written");
}

absl::Status Trace(const config::Options& options, const trace::TimelineOptions& wanted) {
  auto reader = journal::JournalReader::Open(options.Text("journal"));
  if (!reader.ok()) return reader.status();
  const auto timeline = trace::ReadTimeline(reader->get(), wanted);
  if (!timeline.ok()) return timeline.status();
  const std::string ending = (*reader)->EndingText();
  const bool is_damaged = (*reader)->ending() == journal::Ending::kDamaged;
  if (!ending.empty() && !is_damaged) std::fprintf(stderr, "%s\n", ending.c_str());
  if (timeline->is_cut) {
    std::fprintf(stderr, "only the first %zu rounds are drawn; --rounds FROM:TO chooses others\n",
                 timeline->rounds.size());
  }
  std::fputs(trace::StripText(*timeline).c_str(), stdout);
  std::printf("%zu of %llu rounds; phases are laid to end when the worker's message came in\n",
              timeline->rounds.size(), static_cast<unsigned long long>(timeline->num_rounds));
  if (options.Has("out")) {
    if (absl::Status status = WriteTrace(options.Text("out"), *timeline); !status.ok()) return status;
    std::printf("written to %s, for https://ui.perfetto.dev or chrome://tracing\n", options.Text("out").c_str());
  }
  if (is_damaged) return BadFile(options.Text("journal"), absl::StrCat("drawn is what comes before: ", ending));
  return std::fflush(stdout) == 0 ? absl::OkStatus() : absl::InternalError("cannot write to standard output");
}

}  // namespace

ExitCode RunTrace(const config::Options& options) {
  if (!options.Has("journal")) return cell::ReportUsage(kProgram, cell::UsageError("--journal", "is needed"));
  const auto wanted = TimelineOptionsFrom(options);
  if (!wanted.ok()) return cell::ReportUsage(kProgram, wanted.status());
  if (absl::Status status = Trace(options, *wanted); !status.ok()) return cell::ReportFailure(kProgram, status);
  return cell::kExitDone;
}

}  // namespace mirrorsd::cli
