#include "services/config/options.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/numbers.h"
#include "common/check.h"

namespace mirrorsd::config {
namespace {

std::string WithHyphens(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

}  // namespace

const OptionSpec* FindOption(std::string_view name) {
  const std::string hyphened = WithHyphens(name);
  for (const OptionSpec& spec : OptionTable()) {
    if (spec.name == hyphened || (!spec.alias.empty() && spec.alias == hyphened)) return &spec;
  }
  return nullptr;
}

std::string EnvironmentName(std::string_view option_name) {
  std::string name = "MIRRORSD_";
  for (const char c : option_name) {
    name.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  }
  return name;
}

bool Options::Takes(std::string_view name) const {
  const OptionSpec* spec = FindOption(name);
  return spec != nullptr && (spec->programs & program_) != 0;
}

const OptionValue* Options::Find(std::string_view name) const {
  CHECK(Takes(name)) << std::string(name);
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

bool Options::Has(std::string_view name) const { return Find(name) != nullptr; }

bool Options::IsGiven(std::string_view name) const {
  const OptionValue* value = Find(name);
  return value != nullptr && value->source != Source::kDefault;
}

std::string Options::Text(std::string_view name) const {
  const OptionValue* value = Find(name);
  return value != nullptr && !value->texts.empty() ? value->texts.front() : std::string();
}

std::vector<std::string> Options::TextList(std::string_view name) const {
  const OptionValue* value = Find(name);
  return value != nullptr ? value->texts : std::vector<std::string>();
}

int64_t Options::Integer(std::string_view name) const {
  return OptionalInteger(name).value_or(0);
}

double Options::Number(std::string_view name) const { return OptionalNumber(name).value_or(0); }

bool Options::Flag(std::string_view name) const { return Text(name) == "true"; }

std::optional<int64_t> Options::OptionalInteger(std::string_view name) const {
  int64_t value = 0;
  const std::string text = Text(name);
  if (!Has(name) || !absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

std::optional<double> Options::OptionalNumber(std::string_view name) const {
  double value = 0;
  const std::string text = Text(name);
  if (!Has(name) || !absl::SimpleAtod(text, &value)) return std::nullopt;
  return value;
}

std::string Options::Place(std::string_view name) const {
  const OptionValue* value = Find(name);
  return value != nullptr && !value->place.empty() ? value->place : "--" + std::string(name);
}

std::vector<std::string> Options::ArgumentsFor(Program other) const {
  std::vector<std::string> arguments;
  for (const OptionSpec& spec : OptionTable()) {
    const auto found = values_.find(spec.name);
    if (found == values_.end() || found->second.source == Source::kDefault) continue;
    if ((spec.programs & other) == 0 || spec.name == "config") continue;
    for (const std::string& text : found->second.texts) {
      arguments.push_back("--" + std::string(spec.name));
      // "--name=" would take the next word for its value.
      if (text.empty()) {
        arguments.emplace_back();
      } else {
        arguments.back() += "=" + text;
      }
    }
  }
  return arguments;
}

std::string_view ClosestName(std::string_view name, absl::Span<const std::string_view> names) {
  std::string_view closest;
  if (name.size() > 64) return closest;  // no typing error, and the distance would cost its time
  size_t smallest = name.size() / 3 + 2;  // more typing errors than that are another word
  for (const std::string_view candidate : names) {
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= name.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); ++j) {
        const size_t change = diagonal + (name[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
      }
    }
    if (row.back() < smallest) {
      smallest = row.back();
      closest = candidate;
    }
  }
  return closest;
}

}  // namespace mirrorsd::config
