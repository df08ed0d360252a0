#pragma once
// The options of every program, in one table, and what one run made of them. A value comes from the command
// line, else from MIRRORSD_NAME in the environment, else from the YAML file of --config, else from the
// default. Unknown keys are refused with their place and the closest name. Not the place where
// options take effect: mains turn them into the option structs of the role libraries.
// Plain data and pure functions, callable from any thread; ResolveOptions reads the file that --config names.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace mirrorsd::config {

// Which programs and commands take an option.
enum Program : uint32_t {
  kServe = 1u << 0,
  kGenerate = 1u << 1,
  kLogits = 1u << 2,
  kChat = 1u << 3,
  kDoctor = 1u << 4,
  kGateway = 1u << 5,
  kScheduler = 1u << 6,
  kVerifierWorker = 1u << 7,
  kDraftWorker = 1u << 8,
  kBenchRounds = 1u << 9,
  kBenchEngine = 1u << 10,
  kBenchAgreement = 1u << 11,
  kBenchRecord = 1u << 12,
  kMakeTwin = 1u << 13,
  kTune = 1u << 14,
  kTrace = 1u << 15,
};
inline constexpr uint32_t kEveryProgram = ~0u;
inline constexpr uint32_t kEveryRole = kGateway | kScheduler | kVerifierWorker | kDraftWorker;

enum class OptionType : uint8_t { kText, kInteger, kNumber, kFlag, kTextList };

struct OptionSpec {
  std::string_view name;      // as on the command line without the dashes: "grpc-port"
  std::string_view group;     // heading of --help
  std::string_view metavar;   // "DIR"; empty for a flag
  OptionType type = OptionType::kText;
  uint32_t programs = 0;
  std::string_view default_value;  // as text; empty: none
  std::string_view help;
  // kInteger and kNumber: [min, max] where min < max, else no limit here.
  double min = 0;
  double max = 0;
  // kText: what is allowed, separated by '|'; empty: anything.
  std::string_view choices = {};
  // kText: choices of a later version, refused with a message that says so.
  std::string_view later_choices = {};
  std::string_view alias = {};  // a second name on the command line
};

// The whole table, in the order of --help.
absl::Span<const OptionSpec> OptionTable();
const OptionSpec* FindOption(std::string_view name);  // hyphens or underscores

std::string EnvironmentName(std::string_view option_name);  // "grpc-port": "MIRRORSD_GRPC_PORT"

struct CommandSpec {
  Program program = kServe;
  std::string_view command_line;  // "mirrorsd generate", "mirrorsd-gateway"
  std::string_view summary;       // one sentence
  std::string_view usage;         // what follows the command in the usage line
  std::string_view notes;         // examples and remarks, below the options
  // The kTextList option that words without dashes go to; empty: such words are refused.
  std::string_view positional = {};
};

enum class Source : uint8_t { kDefault = 0, kFile, kEnvironment, kCommandLine };

struct OptionValue {
  std::vector<std::string> texts;  // one, or any number for a kTextList
  Source source = Source::kDefault;
  std::string place;  // how messages name it: "--grpc-port", "MIRRORSD_GRPC_PORT", "cell.yaml:3: grpc_port"
};

// Values of the options that one program takes, each already of its type and within its limits.
// Asking for an option that the program does not take is our bug (CHECK).
class Options {
 public:
  Options(Program program, std::map<std::string, OptionValue, std::less<>> values)
      : program_(program), values_(std::move(values)) {}

  bool Takes(std::string_view name) const;  // the program has such an option
  bool Has(std::string_view name) const;    // given, or has a default
  bool IsGiven(std::string_view name) const;
  std::string Text(std::string_view name) const;  // empty if there is none
  std::vector<std::string> TextList(std::string_view name) const;
  int64_t Integer(std::string_view name) const;  // 0 if there is none
  double Number(std::string_view name) const;
  bool Flag(std::string_view name) const;
  std::optional<int64_t> OptionalInteger(std::string_view name) const;
  std::optional<double> OptionalNumber(std::string_view name) const;
  // How a message names where the value came from; "--name" for a default.
  std::string Place(std::string_view name) const;

  // "--name=value" for each given option that `other` takes too, for a child process.
  std::vector<std::string> ArgumentsFor(Program other) const;

 private:
  const OptionValue* Find(std::string_view name) const;

  Program program_;
  std::map<std::string, OptionValue, std::less<>> values_;
};

struct Invocation {
  bool help = false;
  std::optional<Options> options;  // none with `help`
};

// `environment` holds "NAME=value" strings; others than MIRRORSD_* are not looked at.
// Errors:  INVALID_ARGUMENT (usage) that names the option and its place; BAD_FILE, MISSING_FILE for
//          the file of --config
absl::StatusOr<Invocation> ResolveOptions(const CommandSpec& command,
                                          const std::vector<std::string>& arguments,
                                          const std::vector<std::string>& environment);

// The text of --help.
std::string HelpText(const CommandSpec& command);

// The closest of `names` by edit distance, or empty if none is near.
std::string_view ClosestName(std::string_view name, absl::Span<const std::string_view> names);

}  // namespace mirrorsd::config
