#include "tools/simulate/load/workload.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/error.h"
#include "common/ieee_math.h"
#include "tools/simulate/model/text_model.h"

namespace mirrorsd::simulate {
namespace {

using nlohmann::json;

// What chances are for.
enum : uint64_t { kPromptLength = 101, kOutputLength, kGap };
constexpr double kMaxTraceSeconds = 1e7;
constexpr size_t kMaxTraceBytes = size_t{1} << 30;
constexpr size_t kMaxLineBytes = 4096;

double ChanceOf(uint64_t seed, int32_t index, uint64_t what_for) {
  return Chance(Mix(seed + 0x10adull) ^ Mix(static_cast<uint64_t>(index) + 1), what_for);
}

bool ParseCount(absl::string_view text, int32_t most, int32_t* count) {
  return absl::SimpleAtoi(text, count) && *count >= 1 && *count <= most;
}

// One line of a trace, checked field by field.
class LineReader {
 public:
  LineReader(absl::string_view path, int64_t line, const json& object, absl::Status* status)
      : path_(path), line_(line), object_(object), status_(status) {}

  double Number(const char* field, double low, double high, bool whole) {
    const auto found = object_.find(field);
    if (found == object_.end()) return Fail(field, "is missing", low, high);
    if (!found->is_number()) return Fail(field, "is not a number", low, high);
    const double value = found->get<double>();
    if (!(value >= low && value <= high)) return Fail(field, "is out of range", low, high);
    if (whole && value != std::floor(value)) return Fail(field, "is not a whole number", low, high);
    return value;
  }

 private:
  double Fail(const char* field, absl::string_view what, double low, double high) {
    if (status_->ok()) {
      *status_ = BadFile(path_, absl::StrCat("line ", line_, ": ", field, " ", what),
                         absl::StrCat(low, " to ", high));
    }
    return low;
  }

  absl::string_view path_;
  int64_t line_;
  const json& object_;
  absl::Status* status_;
};

absl::StatusOr<Arrival> ParseLine(absl::string_view path, int64_t number, absl::string_view line) {
  const auto bad = [&](absl::string_view what, absl::string_view limit = "") {
    return BadFile(path, absl::StrCat("line ", number, ": ", what), limit);
  };
  if (line.size() > kMaxLineBytes) {
    return bad("is too long", absl::StrCat(kMaxLineBytes, " bytes"));
  }
  const json object = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return bad("is not a JSON object");
  for (const auto& [key, ignored] : object.items()) {
    if (key != "at_s" && key != "prompt_tokens" && key != "output_tokens") {
      return bad("has a field that is not known", "at_s, prompt_tokens, output_tokens");
    }
  }
  absl::Status status;
  LineReader reader(path, number, object, &status);
  Arrival arrival;
  arrival.at_ns = static_cast<int64_t>(reader.Number("at_s", 0, kMaxTraceSeconds, false) * 1e9);
  arrival.prompt_tokens = static_cast<int32_t>(reader.Number("prompt_tokens", 1, kMaxPromptTokens, true));
  arrival.output_tokens = static_cast<int32_t>(reader.Number("output_tokens", 1, kMaxOutputTokens, true));
  if (!status.ok()) return status;
  return arrival;
}

}  // namespace

int32_t Lengths::At(double chance, int32_t most) const {
  int64_t length = low;
  if (shape == Shape::kUniform) length = low + static_cast<int64_t>(chance * (high - low + 1));
  if (shape == Shape::kGeometric && low > 1) {
    length = 1 + static_cast<int64_t>(Log(1 - chance) / Log(1 - 1.0 / low));
  }
  return static_cast<int32_t>(std::clamp<int64_t>(length, 1, most));
}

absl::StatusOr<Lengths> ParseLengths(absl::string_view field, absl::string_view text, int32_t most) {
  const std::string limit = absl::StrCat("N, LOW-HIGH or mean:N; 1 to ", most);
  Lengths lengths;
  if (absl::ConsumePrefix(&text, "mean:")) {
    lengths.shape = Lengths::Shape::kGeometric;
    if (!ParseCount(text, most, &lengths.low)) return InvalidField(field, "is not a length", limit);
    return lengths;
  }
  const std::vector<std::string> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  if (!ParseCount(ends[0], most, &lengths.low)) {
    return InvalidField(field, "is not a length", limit);
  }
  if (ends.size() == 1) return lengths;
  lengths.shape = Lengths::Shape::kUniform;
  if (!ParseCount(ends[1], most, &lengths.high) || lengths.high < lengths.low) {
    return InvalidField(field, "is not a range of lengths", limit);
  }
  return lengths;
}

Arrival Workload::Request(uint64_t seed, int32_t index) const {
  if (kind == Kind::kTrace) return trace[index];
  Arrival arrival;
  arrival.prompt_tokens = prompt.At(ChanceOf(seed, index, kPromptLength), kMaxPromptTokens);
  arrival.output_tokens = output.At(ChanceOf(seed, index, kOutputLength), kMaxOutputTokens);
  return arrival;
}

int64_t Workload::GapNs(uint64_t seed, int32_t index) const {
  return static_cast<int64_t>(-Log(1 - ChanceOf(seed, index, kGap)) / rate * 1e9);
}

absl::StatusOr<std::vector<Arrival>> ParseTrace(absl::string_view path, absl::string_view text) {
  std::vector<Arrival> trace;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty()) continue;
    absl::StatusOr<Arrival> arrival = ParseLine(path, number, line);
    if (!arrival.ok()) return arrival.status();
    if (!trace.empty() && arrival->at_ns < trace.back().at_ns) {
      return BadFile(path, absl::StrCat("line ", number, ": at_s is before the line above"));
    }
    if (trace.size() == kMaxRequests) {
      return BadFile(path, absl::StrCat("line ", number, ": too many requests"),
                     absl::StrCat(kMaxRequests));
    }
    trace.push_back(*arrival);
  }
  if (trace.empty()) return BadFile(path, "has no request");
  return trace;
}

absl::StatusOr<std::vector<Arrival>> LoadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return MissingFile(path, "no such trace file");
  const std::streamoff size = file.tellg();
  if (size < 0 || static_cast<size_t>(size) > kMaxTraceBytes) {
    return BadFile(path, "is too large", absl::StrCat(kMaxTraceBytes, " bytes"));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return BadFile(path, "cannot be read");
  return ParseTrace(path, text);
}

}  // namespace mirrorsd::simulate
