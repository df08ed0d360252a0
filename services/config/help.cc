#include "absl/strings/str_cat.h"
#include "services/config/options.h"

namespace mirrorsd::config {
namespace {

constexpr size_t kColumn = 32;  // where the second column starts
constexpr size_t kWidth = 100;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// Appends `text` in the second column; the first line is already begun.
void AppendWrapped(std::string_view text, std::string* out) {
  size_t line_length = kColumn;
  bool first = true;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!first && line_length + 1 + word.size() > kWidth) {
      absl::StrAppend(out, "\n", std::string(kColumn, ' '));
      line_length = kColumn;
      first = true;
    }
    if (!first) {
      out->push_back(' ');
      ++line_length;
    }
    out->append(word);
    line_length += word.size();
    first = false;
  }
  out->push_back('\n');
}

void AppendRow(const std::string& left, std::string_view right, std::string* out) {
  absl::StrAppend(out, "  ", left);
  if (left.size() + 4 > kColumn) {
    absl::StrAppend(out, "\n", std::string(kColumn, ' '));
  } else {
    out->append(kColumn - 2 - left.size(), ' ');
  }
  AppendWrapped(right, out);
}

void AppendOption(const OptionSpec& spec, std::string* out) {
  std::string left = absl::StrCat("--", View(spec.name));
  if (!spec.alias.empty()) absl::StrAppend(&left, ", --", View(spec.alias));
  if (!spec.metavar.empty()) absl::StrAppend(&left, " ", View(spec.metavar));
  std::string right(spec.help);
  if (!spec.default_value.empty()) {
    absl::StrAppend(&right, " [default: ", View(spec.default_value), "]");
  }
  absl::StrAppend(&right, " [env: ", EnvironmentName(spec.name), "]");
  AppendRow(left, right, out);
}

}  // namespace

std::string HelpText(const CommandSpec& command) {
  std::string text = absl::StrCat(View(command.summary), "\n\nUsage: ", View(command.command_line),
                                  " ", View(command.usage), "\n");
  std::string_view group;
  for (const OptionSpec& spec : OptionTable()) {
    if ((spec.programs & command.program) == 0) continue;
    if (spec.group != group) {
      group = spec.group;
      absl::StrAppend(&text, "\n", View(group), ":\n");
    }
    AppendOption(spec, &text);
  }
  AppendRow("-h, --help", "this text", &text);
  absl::StrAppend(&text,
                  "\nA value comes from the command line, else from the environment, else from the "
                  "file of\n--config, else from the default. Exit codes: 0 done, 1 internal, 2 usage, "
                  "3 bad input or\nmodel, 4 unavailable, 130 interrupted.\n");
  if (!command.notes.empty()) absl::StrAppend(&text, "\n", View(command.notes), "\n");
  return text;
}

}  // namespace mirrorsd::config
