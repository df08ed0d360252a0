#include "services/bench/options/list_options.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/cell/exit_code.h"

namespace mirrorsd::bench {

std::vector<std::string> WordList(const config::Options& options, std::string_view name) {
  std::vector<std::string> words;
  for (const absl::string_view word : absl::StrSplit(options.Text(name), ',', absl::SkipEmpty())) {
    words.emplace_back(word);
  }
  return words;
}

absl::StatusOr<std::vector<int>> IntegerList(const config::Options& options, std::string_view name, int low,
                                             int high) {
  std::vector<int> values;
  for (const std::string& word : WordList(options, name)) {
    int value = 0;
    if (!absl::SimpleAtoi(word, &value) || value < low || value > high) {
      return cell::UsageError(options.Place(name), absl::StrCat("'", word, "' is not a whole number of ",
                                                                low, " to ", high));
    }
    values.push_back(value);
  }
  if (values.empty()) return cell::UsageError(options.Place(name), "is empty");
  return values;
}

absl::StatusOr<std::vector<double>> TemperatureList(const config::Options& options) {
  constexpr std::string_view kName = "temperatures";
  std::vector<double> values;
  for (const std::string& word : WordList(options, kName)) {
    double value = 0;
    if (!absl::SimpleAtod(word, &value) || !(value >= 0 && value <= 100)) {
      return cell::UsageError(options.Place(kName), absl::StrCat("'", word, "' is not a number of 0 to 100"));
    }
    values.push_back(value);
  }
  if (values.empty()) return cell::UsageError(options.Place(kName), "is empty");
  return values;
}

}  // namespace mirrorsd::bench
