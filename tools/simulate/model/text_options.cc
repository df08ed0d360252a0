#include "tools/simulate/model/text_options.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/error.h"

namespace mirrorsd::simulate {
namespace {

using nlohmann::json;

constexpr size_t kMaxPoints = 64;
constexpr int32_t kMaxRank = 1023;
constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr size_t kMaxKinds = 256;

bool ParseChance(absl::string_view text, double* chance) {
  return absl::SimpleAtod(text, chance) && *chance >= 0 && *chance <= 1;
}

// {"1": {"value": 0.9, ...}, "2": ...} with increasing k; chances that fall by noise are lifted.
absl::StatusOr<RecallCurve> CurveOf(const json& table) {
  std::vector<std::pair<int32_t, double>> points;
  if (!table.is_object()) return absl::InvalidArgumentError("is not an object");
  for (const auto& [key, share] : table.items()) {
    int32_t k = 0;
    const auto value = share.is_object() ? share.find("value") : share.end();
    if (!absl::SimpleAtoi(key, &k) || k < 1 || k > kMaxRank || !share.is_object() ||
        value == share.end() || !value->is_number()) {
      return absl::InvalidArgumentError("is not a table of shares by K");
    }
    const double chance = value->get<double>();
    if (!(chance >= 0 && chance <= 1)) return absl::InvalidArgumentError("has no share of 0 to 1");
    points.emplace_back(k, chance);
  }
  std::sort(points.begin(), points.end());
  for (size_t i = 1; i < points.size(); ++i) {
    points[i].second = std::max(points[i].second, points[i - 1].second);
  }
  return RecallCurve(std::move(points));
}

absl::StatusOr<TextKind> KindOf(const std::string& name, const json& entry) {
  TextKind kind;
  kind.name = name;
  if (!entry.is_object()) return absl::InvalidArgumentError("is not an object");
  const auto agreement = entry.find("agreement");
  if (agreement == entry.end() || !agreement->is_object() || !agreement->contains("value") ||
      !(*agreement)["value"].is_number()) {
    return absl::InvalidArgumentError("has no agreement");
  }
  const double value = (*agreement)["value"].get<double>();
  if (!(value >= 0 && value <= 1)) return absl::InvalidArgumentError("has an agreement beyond 0 to 1");
  kind.acceptance = {value};
  if (const auto prompts = entry.find("prompts"); prompts != entry.end() && prompts->is_number()) {
    kind.weight = std::clamp(prompts->get<double>(), 1e-3, 1e9);
  }
  for (const auto& [field, curve] : {std::pair("exit_recall", &kind.exit_all),
                                     std::pair("exit_recall_given_reject", &kind.exit_given_reject)}) {
    const auto table = entry.find(field);
    if (table == entry.end()) return absl::InvalidArgumentError(absl::StrCat("has no ", field));
    absl::StatusOr<RecallCurve> read = CurveOf(*table);
    if (!read.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(field, " ", std::string(read.status().message())));
    }
    *curve = *std::move(read);
  }
  return kind;
}

}  // namespace

absl::StatusOr<std::vector<double>> ParseChances(absl::string_view field, absl::string_view text) {
  std::vector<double> chances;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    double chance = 0;
    if (!ParseChance(part, &chance) || chances.size() == kMaxPoints) {
      return InvalidField(field, absl::StrCat("'", text.substr(0, 80), "' is no list of chances"),
                          absl::StrCat("1 to ", kMaxPoints, " numbers of 0 to 1, with commas"));
    }
    chances.push_back(chance);
  }
  return chances;
}

absl::StatusOr<RecallCurve> ParseCurve(absl::string_view field, absl::string_view text) {
  std::vector<std::pair<int32_t, double>> points;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(part, ':');
    int32_t k = 0;
    double chance = 0;
    const bool reads = sides.size() == 2 && absl::SimpleAtoi(sides[0], &k) && k >= 1 &&
                       k <= kMaxRank && ParseChance(sides[1], &chance);
    const bool rises = points.empty() || (k > points.back().first && chance >= points.back().second);
    if (!reads || !rises || points.size() == kMaxPoints) {
      return InvalidField(field, absl::StrCat("'", text.substr(0, 80), "' is no recall by K"),
                          absl::StrCat("K:CHANCE,K:CHANCE,... with K of 1 to ", kMaxRank,
                                       " rising and chances of 0 to 1 that do not fall"));
    }
    points.emplace_back(k, chance);
  }
  return RecallCurve(std::move(points));
}

absl::StatusOr<std::vector<TextKind>> ParseKinds(absl::string_view path, absl::string_view text,
                                                 const std::string& label,
                                                 const std::string& temperature) {
  json found;
  int64_t number = 0;
  int64_t found_at = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    json object = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) {
      return BadFile(path, absl::StrCat("line ", number, ": is not a JSON object"));
    }
    const auto what = object.find("what");
    if (what == object.end() || !what->is_string() || what->get<std::string>() != label) continue;
    found = std::move(object);
    found_at = number;
  }
  if (found_at == 0) return BadFile(path, absl::StrCat("no line whose \"what\" is '", label, "'"));
  const auto bad = [&](absl::string_view what) {
    return BadFile(path, absl::StrCat("line ", found_at, ": ", what));
  };
  const std::string key = absl::StrCat("temperature ", temperature);
  if (!found.contains("figures") || !found["figures"].is_object()) return bad("has no figures");
  const json& figures = found["figures"];
  if (!figures.contains(key) || !figures[key].is_object()) {
    return bad(absl::StrCat("has no figures of ", key));
  }
  std::vector<TextKind> kinds;
  for (const auto& [name, entry] : figures[key].items()) {
    if (name == "all") continue;
    absl::StatusOr<TextKind> kind = KindOf(name, entry);
    if (!kind.ok()) {
      return bad(absl::StrCat(key, ", ", name.substr(0, 64), ": ", std::string(kind.status().message())));
    }
    kinds.push_back(*std::move(kind));
  }
  if (kinds.empty() || kinds.size() > kMaxKinds) return bad("has no kinds of text, or too many");
  return kinds;
}

absl::StatusOr<std::vector<TextKind>> LoadKinds(const std::string& path, const std::string& label,
                                                const std::string& temperature) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return MissingFile(path, "no such file");
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return BadFile(path, "is too large", absl::StrCat(kMaxFileBytes, " bytes"));
  }
  return ParseKinds(path, text, label, temperature);
}

}  // namespace mirrorsd::simulate
