// mirrorsd-replay: repeats what a scheduler's journal recorded. docs/journal.md says how to record one.

#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/error.h"
#include "services/journal/reader.h"
#include "services/journal/replay.h"

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
  std::fprintf(stderr, "recorded by mirrorsd %s (%s) from %s\n", build.version.c_str(),
               build.compiler.c_str(),
               absl::FormatTime(absl::RFC3339_sec, head.life.started, absl::UTCTimeZone()).c_str());
  if (build.version != MIRRORSD_VERSION || build.compiler != __VERSION__) {
    std::fprintf(stderr, "this is mirrorsd %s (%s): another core may do something else\n",
                 MIRRORSD_VERSION, __VERSION__);
  }
}

int Repeat(JournalReader* reader) {
  const auto report = Replay(reader, nullptr);
  if (!report.ok()) return Fail(kBadFile, report.status().message());
  if (!report->difference.empty()) {
    std::printf("differs: %s\n", report->difference.c_str());
    return kDiffers;
  }
  const std::string ending = reader->EndingText();
  if (!ending.empty()) std::fprintf(stderr, "%s\n", ending.c_str());
  if (report->num_proven < report->num_events) {
    std::fprintf(stderr, "what was done behind event %llu was not recorded: nothing to compare with\n",
                 static_cast<unsigned long long>(report->num_proven));
  }
  std::printf("%llu events, %llu actions, exact\n",
              static_cast<unsigned long long>(report->num_events),
              static_cast<unsigned long long>(report->num_actions));
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
  return Repeat(reader->get());
}

}  // namespace
}  // namespace mirrorsd::journal

int main(int argc, char** argv) { return mirrorsd::journal::Main(argc, argv); }
