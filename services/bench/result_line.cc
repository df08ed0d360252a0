#include "services/bench/result_line.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/error.h"
#include "services/bench/build_commit.h"
#include "services/bench/machine.h"

namespace mirrorsd::bench {
namespace {

absl::Status Write(const std::string& path, const std::string& text, std::ios::openmode mode) {
  std::ofstream file(path, std::ios::binary | mode);
  file << text << std::flush;
  return file ? absl::OkStatus() : BadFile(path, "cannot be written");
}

}  // namespace

nlohmann::ordered_json ResultHead(const std::string& command, const std::string& what) {
  nlohmann::ordered_json line;
  line["date"] = absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  line["commit"] = BuildCommit();
  line["machine"] = MachineName();
  line["command"] = command;
  line["what"] = what;
  return line;
}

absl::Status AppendLine(const std::string& path, const nlohmann::ordered_json& line) {
  return Write(path, line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
               std::ios::app);
}

absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  return Write(path, text, std::ios::trunc);
}

std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string words{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!words.empty() && words.back() == '\0') words.pop_back();
  std::string line;
  for (const absl::string_view part : absl::StrSplit(words, '\0')) {
    const std::string word(part);
    if (line.empty()) {
      line = word.substr(word.rfind('/') + 1);
      continue;
    }
    const bool plain = !word.empty() && word.find_first_of(" \t\n'\"$`\\") == std::string::npos;
    absl::StrAppend(&line, " ", plain ? word : absl::StrCat("'", word, "'"));
  }
  return line;
}

double Rounded(double value) {
  double rounded = value;
  if (!std::isfinite(value) || !absl::SimpleAtod(absl::StrFormat("%.4g", value), &rounded)) return value;
  return rounded;
}

}  // namespace mirrorsd::bench
