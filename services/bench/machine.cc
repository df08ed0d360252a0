#include "services/bench/machine.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/runtime/clock.h"

namespace mirrorsd::bench {
namespace {

// The value of the first line "KEY ...: VALUE" of a file of /proc.
std::string Field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    if (line.rfind(key, 0) != 0 || colon == std::string::npos) continue;
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

// User and system time of a process so far, in ticks.
double ProcessTicks(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');  // a name may hold anything
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return user + system;
}

}  // namespace

std::string MachineName() {
  std::string model = Field("/proc/cpuinfo", "model name");
  if (model.empty()) model = "unknown processor";
  const double kib = std::atof(Field("/proc/meminfo", "MemTotal").c_str());
  return absl::StrCat(model, ", ", sysconf(_SC_NPROCESSORS_ONLN), " cores, ",
                      static_cast<int>(kib / (1 << 20)), " GiB");
}

OtherLoad::OtherLoad(std::vector<pid_t> children) : children_(std::move(children)), start_(Read()) {}

OtherLoad::Reading OtherLoad::Read() const {
  Reading reading{.at = runtime::MonotonicNow()};
  const double tick_s = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  std::ifstream file("/proc/stat");
  std::string word;
  file >> word;  // "cpu": user nice system idle iowait irq softirq steal
  double ticks = 0;
  for (int i = 0; i < 8 && file >> ticks; ++i) {
    if (i != 3 && i != 4) reading.busy_s += ticks * tick_s;
  }
  reading.own_s = ProcessTicks(getpid()) * tick_s;
  for (const pid_t child : children_) reading.own_s += ProcessTicks(child) * tick_s;
  return reading;
}

double OtherLoad::Cores() const {
  const Reading now = Read();
  const double elapsed = absl::ToDoubleSeconds(now.at - start_.at);
  if (elapsed <= 0) return 0;
  return std::max(0.0, (now.busy_s - start_.busy_s - (now.own_s - start_.own_s)) / elapsed);
}

}  // namespace mirrorsd::bench
