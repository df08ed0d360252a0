// mirrorsd-replay: repeats what a scheduler's journal recorded. docs/journal.md says how to record one.

#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/time/time.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"
#include "services/journal/scenario.h"
#include "services/journal/story.h"

namespace mirrorsd::journal {
namespace {

enum ExitCode : int { kExact = 0, kDiffers = 1, kUsage = 2, kBadFile = 3 };

constexpr char kHelp[] =
    R"(mirrorsd-replay: repeats a recorded life of a scheduler (mirrorsd-scheduler --journal FILE).

Usage: mirrorsd-replay FILE                       repeats it and compares all that the core did
       mirrorsd-replay FILE --story REQUEST_ID    tells what became of one request
       mirrorsd-replay FILE --scenario FROM:TO    prints these events as a scenario (tests/scenarios)

FILE is a whole life, or the ring of last events that a failed CHECK or SIGUSR1 left; a ring can tell
stories only. Events count from 1.

Exit status: 0 exact (or told), 1 the core does something else than was recorded, 2 usage, 3 a bad file.
)";

struct Arguments {
  std::string file;
  std::string story;
  std::string scenario;
  bool help = false;
  bool version = false;
};

// Takes "--name VALUE" and "--name=VALUE".
absl::Status Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      arguments->help = true;
    } else if (word == "--version") {
      arguments->version = true;
    } else if (word.rfind("--", 0) == 0) {
      const size_t equals = word.find('=');
      const std::string name = word.substr(0, equals);
      std::string* const value = name == "--story"      ? &arguments->story
                                 : name == "--scenario" ? &arguments->scenario
                                                        : nullptr;
      if (value == nullptr) return absl::InvalidArgumentError("unknown option " + name);
      if (equals == std::string::npos && ++i >= argc) {
        return absl::InvalidArgumentError(name + " needs a value");
      }
      *value = equals == std::string::npos ? argv[i] : word.substr(equals + 1);
      if (value->empty()) return absl::InvalidArgumentError(name + " needs a value");
    } else if (arguments->file.empty()) {
      arguments->file = word;
    } else {
      return absl::InvalidArgumentError("one FILE at a time, and here is " + word);
    }
  }
  if (arguments->file.empty() && !arguments->help && !arguments->version) {
    return absl::InvalidArgumentError("FILE is needed");
  }
  if (!arguments->story.empty() && !arguments->scenario.empty()) {
    return absl::InvalidArgumentError("--story or --scenario, not both");
  }
  return absl::OkStatus();
}

int Fail(int code, absl::string_view message) {
  std::fprintf(stderr, "mirrorsd-replay: %s\n", std::string(message).c_str());
  if (code == kUsage) std::fputs("Try 'mirrorsd-replay --help'.\n", stderr);
  return code;
}

void SayWhoseLife(const JournalHead& head) {
  const wire::RecordedBuild& build = head.life.build;
  std::fprintf(stderr, "recorded by mirrorsd %s (%s) from %s\n",
               absl::Utf8SafeCHexEscape(build.version).c_str(),
               absl::Utf8SafeCHexEscape(build.compiler).c_str(),
               absl::FormatTime(absl::RFC3339_sec, head.life.started, absl::UTCTimeZone()).c_str());
  if (build.version != MIRRORSD_VERSION || build.compiler != __VERSION__) {
    std::fprintf(stderr, "this is mirrorsd %s (%s): another core may do something else\n",
                 MIRRORSD_VERSION, __VERSION__);
  }
}

void SayWhatRing(const JournalHead& head) {
  if (!head.is_ring) return;
  std::fprintf(stderr, "the last events of that life, from event %llu on; dumped: %s\n",
               static_cast<unsigned long long>(head.first_event),
               absl::Utf8SafeCHexEscape(head.ring_reason).c_str());
}

void SayHowItEnds(const JournalReader& reader) {
  const std::string ending = reader.EndingText();
  if (!ending.empty()) std::fprintf(stderr, "%s\n", ending.c_str());
}

int Print(const absl::StatusOr<std::string>& text, const JournalReader& reader) {
  if (!text.ok()) return Fail(kBadFile, text.status().message());
  std::fputs(text->c_str(), stdout);
  SayHowItEnds(reader);
  return kExact;
}

int Repeat(JournalReader* reader) {
  const auto report = Replay(reader, nullptr);
  if (!report.ok()) return Fail(kBadFile, report.status().message());
  if (!report->difference.empty()) {
    std::printf("differs: %s\n", report->difference.c_str());
    return kDiffers;
  }
  SayHowItEnds(*reader);
  const auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu events, %llu actions, exact", number(report->num_events),
              number(report->num_actions));
  if (report->num_proven < report->num_events) {
    std::printf(" up to event %llu (behind it nothing was recorded to compare with)",
                number(report->num_proven));
  }
  std::printf("\n");
  return reader->ending() == Ending::kDamaged ? kBadFile : kExact;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (absl::Status status = Parse(argc, argv, &arguments); !status.ok()) {
    return Fail(kUsage, status.message());
  }
  if (arguments.help) {
    std::fputs(kHelp, stdout);
    return kExact;
  }
  if (arguments.version) {
    std::printf("mirrorsd-replay %s\n", MIRRORSD_VERSION);
    return kExact;
  }
  auto reader = JournalReader::Open(arguments.file);
  if (!reader.ok()) return Fail(kBadFile, reader.status().message());
  SayWhoseLife((*reader)->head());
  if (!arguments.story.empty()) {
    SayWhatRing((*reader)->head());
    return Print(TellStory(reader->get(), arguments.story), **reader);
  }
  if (!arguments.scenario.empty()) {
    const auto stretch = ParseStretch("--scenario", arguments.scenario);
    if (!stretch.ok()) return Fail(kUsage, stretch.status().message());
    return Print(WriteScenario(reader->get(), stretch->first, stretch->second), **reader);
  }
  return Repeat(reader->get());
}

}  // namespace
}  // namespace mirrorsd::journal

int main(int argc, char** argv) { return mirrorsd::journal::Main(argc, argv); }
