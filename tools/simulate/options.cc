#include "tools/simulate/options.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/ids.h"
#include "scheduler/policy/policies.h"
#include "tools/simulate/model/text_options.h"
#include "workers/pacing/profile_file.h"

namespace mirrorsd::simulate {
namespace {

constexpr int32_t kMaxWorkers = 4096;
constexpr int32_t kMaxWindow = 64;

// What the options say, before it is put together.
struct Given {
  Command command;
  std::string target = "mirror-sd-target-qwen3-14b";
  std::string draft = "mirror-sd-draft-qwen3-0.6b";
  bool jitter = true;
  TextKind kind;
  std::string text_from;
  std::string text_label = "demo pair";
  std::string text_temperature = "0";
  std::string trace;
  double one_way_us = 50;
  double host_us = 50;
};

struct Option {
  const char* name;     // with the dashes
  const char* metavar;  // empty: a heading, whose text is `name`
  const char* help;
  std::function<absl::Status(const char* name, const std::string& text, Given* given)> set;
};

using Set = decltype(Option::set);

Set Text(std::string Given::* field) {
  return [field](const char*, const std::string& text, Given* given) {
    given->*field = text;
    return absl::OkStatus();
  };
}

Set Whole(std::function<int32_t*(Given*)> field, int32_t low, int32_t high) {
  return [=](const char* name, const std::string& text, Given* given) {
    int32_t value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < low || value > high) {
      return InvalidField(name, absl::StrCat("'", text, "' is no such number"),
                          absl::StrCat(low, " to ", high));
    }
    *field(given) = value;
    return absl::OkStatus();
  };
}

Set Number(std::function<double*(Given*)> field, double low, double high) {
  return [=](const char* name, const std::string& text, Given* given) {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !(value >= low && value <= high)) {
      return InvalidField(name, absl::StrCat("'", text, "' is no such number"),
                          absl::StrCat(low, " to ", high));
    }
    *field(given) = value;
    return absl::OkStatus();
  };
}

Set Curve(RecallCurve TextKind::* field) {
  return [field](const char* name, const std::string& text, Given* given) {
    absl::StatusOr<RecallCurve> curve = ParseCurve(name, text);
    if (!curve.ok()) return curve.status();
    given->kind.*field = *std::move(curve);
    return absl::OkStatus();
  };
}

Set Length(Lengths Workload::* field, int32_t most) {
  return [=](const char* name, const std::string& text, Given* given) {
    const absl::StatusOr<Lengths> lengths = ParseLengths(name, text, most);
    if (!lengths.ok()) return lengths.status();
    given->command.settings.workload.*field = *lengths;
    return absl::OkStatus();
  };
}

absl::Status SetModes(const char* name, const std::string& text, Given* given) {
  std::vector<std::string> known;
  for (const SpeculationPolicy& policy : scheduler::Policies()) {
    known.push_back(SpeculationModeName(policy.mode));
  }
  given->command.modes.clear();
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(text, ','))) {
    const auto found = std::find(known.begin(), known.end(), word);
    if (found == known.end()) {
      return InvalidField(name, absl::StrCat("'", word, "' is no mode"), absl::StrJoin(known, ", "));
    }
    given->command.modes.push_back(scheduler::Policies()[found - known.begin()].mode);
  }
  return absl::OkStatus();
}

absl::Status SetFallback(const char* name, const std::string& text, Given* given) {
  for (const MissFallback fallback : {MissFallback::kEmpty, MissFallback::kNgram, MissFallback::kHold}) {
    if (text != MissFallbackName(fallback)) continue;
    given->command.settings.miss_fallback = fallback;
    return absl::OkStatus();
  }
  return InvalidField(name, absl::StrCat("'", text, "' is no fallback"), "empty, ngram or hold");
}

absl::Status SetAcceptance(const char* name, const std::string& text, Given* given) {
  absl::StatusOr<std::vector<double>> chances = ParseChances(name, text);
  if (!chances.ok()) return chances.status();
  given->kind.acceptance = *std::move(chances);
  return absl::OkStatus();
}

absl::Status SetJitter(const char* name, const std::string& text, Given* given) {
  if (text != "on" && text != "off") return InvalidField(name, "is a switch", "on or off");
  given->jitter = text == "on";
  return absl::OkStatus();
}

absl::Status SetSeed(const char* name, const std::string& text, Given* given) {
  if (absl::SimpleAtoi(text, &given->command.settings.seed)) return absl::OkStatus();
  return InvalidField(name, "is no number", "0 to 2^64 - 1");
}

Set ToKind(Workload::Kind kind, Set set) {
  return [=](const char* name, const std::string& text, Given* given) {
    given->command.settings.workload.kind = kind;
    return set(name, text, given);
  };
}

Set CommandText(std::string Command::* field) {
  return [field](const char*, const std::string& text, Given* given) {
    given->command.*field = text;
    return absl::OkStatus();
  };
}

Set InSettings(int32_t Settings::* field, int32_t low, int32_t high) {
  return Whole([field](Given* given) { return &(given->command.settings.*field); }, low, high);
}

std::vector<Option> SpeculationOptions() {
  return {
      {"Speculation", "", "", nullptr},
      {"--modes", "LIST", "modes to simulate side by side [off,serial]", SetModes},
      {"--num-speculative-tokens", "N", "longest window [4]",
       InSettings(&Settings::num_speculative_tokens, 0, kMaxWindow)},
      {"--branch-top-k", "N", "mirror: candidates of each row [4]",
       InSettings(&Settings::branch_top_k, 1, kMaxBranchTopK)},
      {"--branch-budget", "N", "mirror: branches of one round's cohort [64]",
       InSettings(&Settings::branch_budget, 1, 65536)},
      {"--miss-fallback", "WORD", "mirror: empty, ngram or hold [empty]", SetFallback},
  };
}

std::vector<Option> DevicesOptions() {
  return {
      {"Devices", "", "", nullptr},
      {"--device-profile", "NAME|FILE", "of the verifiers [mirror-sd-target-qwen3-14b]",
       Text(&Given::target)},
      {"--draft-device-profile", "NAME|FILE", "of the drafts [mirror-sd-draft-qwen3-0.6b]",
       Text(&Given::draft)},
      {"--jitter", "on|off", "the profiles' spread of pass times [on]", SetJitter},
      {"--early-exit-layer", "N", "where the verifier's pass is cut; 0: half of the profile's layers [0]",
       Whole([](Given* g) { return &g->command.settings.verifier.exit_layer; }, 0, 4096)},
      {"--verifiers", "N", "verifier groups [1]", InSettings(&Settings::num_verifiers, 1, kMaxWorkers)},
      {"--drafts", "N", "draft-workers [1]", InSettings(&Settings::num_drafts, 0, kMaxWorkers)},
      {"--max-num-seqs", "N", "live requests of one verifier [256]",
       InSettings(&Settings::max_num_seqs, 1, 8192)},
      {"--max-prefill-rows", "N", "prompt tokens of one round [256]",
       InSettings(&Settings::max_prefill_rows_per_round, 1, 65536)},
      {"--draft-rows", "N", "rows of one depth at a draft [1024]",
       Whole([](Given* g) { return &g->command.settings.draft.limits.max_rows; }, 1, 1 << 20)},
      {"--catch-up-every", "N",
       "depths of rollouts after which a draft catches up with prompts first; 0: only where none roll [4]",
       Whole([](Given* g) { return &g->command.settings.draft.catch_up_every; }, 0, 1 << 20)},
      {"--one-way-us", "T", "a message from scheduler to worker, or back [50]",
       Number([](Given* g) { return &g->one_way_us; }, 0, 1e7)},
      {"--host-us", "T", "a worker's own time for each pass [50]",
       Number([](Given* g) { return &g->host_us; }, 0, 1e7)},
  };
}

std::vector<Option> TextOptions() {
  return {
      {"Text", "", "", nullptr},
      {"--acceptance", "LIST", "chance that the draft's token is the target's; one, or by depth [0.7]",
       SetAcceptance},
      {"--own-rank-recall", "CURVE",
       "where it is not: that the target's is among the draft's next K [1:0.45,3:0.7]",
       Curve(&TextKind::own_rank)},
      {"--exit-recall-given-reject", "CURVE",
       "that the correction is among the exit's K best others, given a reject [1:0.5,4:0.75,8:0.85]",
       Curve(&TextKind::exit_given_reject)},
      {"--exit-recall", "CURVE", "the same of all rows, for the one behind a window [1:0.75,4:0.93,8:0.96]",
       Curve(&TextKind::exit_all)},
      {"--text-from", "FILE", "instead of the above but own ranks: results of `mirrorsd bench agreement`",
       Text(&Given::text_from)},
      {"--text-from-journal", "FILE", "or acceptance and exit recall as in a recorded life (docs/journal.md)",
       CommandText(&Command::text_from_journal)},
      {"--text-label", "TEXT", "which of its runs [demo pair]", Text(&Given::text_label)},
      {"--text-temperature", "T", "and at which temperature [0]", Text(&Given::text_temperature)},
  };
}

std::vector<Option> LoadOptions() {
  return {
      {"Load", "", "", nullptr},
      {"--concurrency", "N", "a closed loop: so many requests at once [1]",
       ToKind(Workload::Kind::kClosed,
              Whole([](Given* g) { return &g->command.settings.workload.concurrency; }, 1, 1 << 20))},
      {"--rate", "R", "or so many a second, as a Poisson process",
       ToKind(Workload::Kind::kRate,
              Number([](Given* g) { return &g->command.settings.workload.rate; }, 1e-6, 1e6))},
      {"--trace", "FILE", "or as a file says: JSON lines with at_s, prompt_tokens, output_tokens",
       ToKind(Workload::Kind::kTrace, Text(&Given::trace))},
      {"--load-from-journal", "FILE", "or as requests came in a recorded life",
       ToKind(Workload::Kind::kTrace, CommandText(&Command::load_from_journal))},
      {"--requests", "N", "in all; with a trace: as many as it has [32]",
       Whole([](Given* g) { return &g->command.settings.workload.requests; }, 1, kMaxRequests)},
      {"--prompt-tokens", "LENGTH", "N, LOW-HIGH or mean:N [128]",
       Length(&Workload::prompt, kMaxPromptTokens)},
      {"--output-tokens", "LENGTH", "N, LOW-HIGH or mean:N [256]",
       Length(&Workload::output, kMaxOutputTokens)},
      {"--seed", "N", "one seed is one life [1]", SetSeed},
  };
}

std::vector<Option> OutputOptions() {
  return {
      {"Output", "", "", nullptr},
      {"--label", "TEXT", "what the run is called [from the settings]", CommandText(&Command::label)},
      {"--json", "FILE", "append one JSON line to it", CommandText(&Command::json)},
      {"--journal", "FILE", "record each mode's life, for mirrorsd-replay; a file that exists is left alone",
       CommandText(&Command::journal)},
      {"--svg", "DIR", "write plots there", CommandText(&Command::svg)},
  };
}

const std::vector<Option>& Table() {
  static const std::vector<Option>* const table = [] {
    auto* all = new std::vector<Option>;
    for (auto* part : {SpeculationOptions, DevicesOptions, TextOptions, LoadOptions, OutputOptions}) {
      for (Option& option : part()) all->push_back(std::move(option));
    }
    return all;
  }();
  return *table;
}

Given Defaults() {
  Given given;
  given.command.modes = {SpeculationMode::kOff, SpeculationMode::kSerial};
  Settings& settings = given.command.settings;
  settings.workload.requests = 32;
  settings.workload.prompt.low = 128;
  settings.workload.output.low = 256;
  settings.verifier.name = "verifier";
  settings.draft.name = "draft";
  settings.verifier.limits = {.max_sequences = 8192, .max_rows = 65536, .max_window = kMaxWindow};
  settings.draft.limits = {.max_sequences = 8192, .max_rows = 1024, .max_window = kMaxWindow};
  settings.draft.chunk_tokens = 256;
  settings.draft.catch_up_every = 4;
  settings.verifier.kv_tokens = settings.draft.kv_tokens = int64_t{1} << 33;  // more than is ever asked for
  given.kind.name = "text";
  given.kind.acceptance = {0.7};
  given.kind.own_rank = RecallCurve({{1, 0.45}, {3, 0.7}});
  given.kind.exit_given_reject = RecallCurve({{1, 0.5}, {4, 0.75}, {8, 0.85}});
  given.kind.exit_all = RecallCurve({{1, 0.75}, {4, 0.93}, {8, 0.96}});
  return given;
}

absl::Status LoadDevices(Given* given) {
  Settings& settings = given->command.settings;
  for (auto [name, spec] : {std::pair(&given->target, &settings.verifier),
                            std::pair(&given->draft, &settings.draft)}) {
    absl::StatusOr<pacing::DeviceProfile> profile = pacing::LoadDeviceProfile(*name);
    if (!profile.ok()) return profile.status();
    spec->profile = *std::move(profile);
    if (!given->jitter) spec->profile.jitter.sigma = 0;
    spec->one_way_ns = static_cast<int64_t>(given->one_way_us * 1e3);
    spec->host_ns = static_cast<int64_t>(given->host_us * 1e3);
  }
  int32_t* exit_layer = &settings.verifier.exit_layer;
  const int32_t num_layers = settings.verifier.profile.num_layers;
  if (*exit_layer >= num_layers) {
    return InvalidField("--early-exit-layer", absl::StrCat("it is ", *exit_layer),
                        absl::StrCat("1 to ", num_layers - 1, ", below the profile's layers"));
  }
  if (*exit_layer == 0) *exit_layer = std::max(1, num_layers / 2);
  return absl::OkStatus();
}

absl::Status Complete(Given* given) {
  if (absl::Status status = LoadDevices(given); !status.ok()) return status;
  Settings& settings = given->command.settings;
  settings.kinds = {given->kind};
  if (!given->text_from.empty()) {
    absl::StatusOr<std::vector<TextKind>> kinds =
        LoadKinds(given->text_from, given->text_label, given->text_temperature);
    if (!kinds.ok()) return kinds.status();
    settings.kinds = *std::move(kinds);
    for (TextKind& kind : settings.kinds) kind.own_rank = given->kind.own_rank;
  }
  if (!given->trace.empty()) {
    absl::StatusOr<std::vector<Arrival>> trace = LoadTrace(given->trace);
    if (!trace.ok()) return trace.status();
    settings.workload.trace = *std::move(trace);
    settings.workload.requests = static_cast<int32_t>(settings.workload.trace.size());
  }
  const bool speculates = std::any_of(given->command.modes.begin(), given->command.modes.end(),
                                      [](SpeculationMode mode) { return mode != SpeculationMode::kOff; });
  if (speculates && settings.num_drafts == 0) {
    return InvalidField("--drafts", "a mode that speculates needs one", "at least 1");
  }
  return absl::OkStatus();
}

const Option* Find(const std::string& name) {
  for (const Option& option : Table()) {
    if (option.set && name == option.name) return &option;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<Command> ParseCommand(const std::vector<std::string>& arguments) {
  Given given = Defaults();
  std::vector<const Option*> seen;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--help" || word == "-h") given.command.help = true;
    if (word == "--version") given.command.version = true;
    if (given.command.help || given.command.version) return given.command;
    const size_t equals = word.find('=');
    const Option* const option = Find(word.substr(0, equals));
    if (option == nullptr) {
      return InvalidField(word.substr(0, 80), "is no option", "those of --help");
    }
    if (std::find(seen.begin(), seen.end(), option) != seen.end()) {
      return InvalidField(option->name, "is given twice", "once");
    }
    seen.push_back(option);
    if (equals == std::string::npos && ++i >= arguments.size()) {
      return InvalidField(option->name, "needs a value", option->metavar);
    }
    const std::string text = equals == std::string::npos ? arguments[i] : word.substr(equals + 1);
    if (text.empty()) return InvalidField(option->name, "needs a value", option->metavar);
    if (absl::Status status = option->set(option->name, text, &given); !status.ok()) return status;
  }
  const int num_loads = std::count_if(seen.begin(), seen.end(), [](const Option* option) {
    return option == Find("--concurrency") || option == Find("--rate") || option == Find("--trace") ||
           option == Find("--load-from-journal");
  });
  if (num_loads > 1) {
    return InvalidField("--concurrency, --rate, --trace, --load-from-journal", "exclude each other",
                        "one of them");
  }
  if (absl::Status status = Complete(&given); !status.ok()) return status;
  return std::move(given.command);
}

std::string HelpText() {
  std::string text =
      "mirrorsd-simulate: the real scheduler core in virtual time, with modelled workers.\n\n"
      "Usage: mirrorsd-simulate [OPTIONS]\n\n"
      "Simulates the same requests in each mode and prints the modes side by side. Devices are profiles\n"
      "(docs/paced-devices.md), models are chances; what decides is the scheduler's own code. What is\n"
      "modelled and what is not stands in docs/simulator.md.\n";
  for (const Option& option : Table()) {
    if (!option.set) {
      absl::StrAppend(&text, "\n", option.name, ":\n");
      continue;
    }
    const std::string left = absl::StrCat("  ", option.name, " ", option.metavar);
    absl::StrAppend(&text, left, std::string(left.size() < 36 ? 36 - left.size() : 1, ' '), option.help,
                    "\n");
  }
  absl::StrAppend(&text, "\nDevice profiles: ", absl::StrJoin(pacing::BuiltinProfileNames(), ", "),
                  "; or a file.\n\nExit status: 0 done, 2 usage, 3 a bad file.\n");
  return text;
}

}  // namespace mirrorsd::simulate
