#include "services/bench/prompt_file.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::bench {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 8;  // of nesting; what we read has two

absl::Status CheckName(const std::string& name, const std::string& where, const char* field) {
  if (!name.empty() && name.size() <= kMaxNameBytes) return absl::OkStatus();
  return BadFile(where, absl::StrCat("`", field, "` is empty or too long"),
                 absl::StrCat("1 to ", kMaxNameBytes, " bytes"));
}

absl::StatusOr<Prompt> ParseLine(std::string_view line, const std::string& where) {
  // Deep nesting is dropped while it is read; the text of what is wrong with JSON is the library's.
  bool too_deep = false;
  const auto watch = [&](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > static_cast<int>(kMaxDepth);
    return !too_deep;
  };
  const json object = json::parse(line, watch, /*allow_exceptions=*/false);
  if (too_deep) return BadFile(where, "is nested too deep", absl::StrCat(kMaxDepth));
  if (object.is_discarded()) return BadFile(where, "is not JSON, or not UTF-8");
  if (!object.is_object()) return BadFile(where, "is not a JSON object");
  Prompt prompt;
  const auto id = object.find("question_id");
  if (id == object.end() || !(id->is_string() || id->is_number_integer())) {
    return BadFile(where, "`question_id` is neither a whole number nor a string");
  }
  prompt.id = id->is_string() ? id->get<std::string>() : id->dump();
  if (absl::Status status = CheckName(prompt.id, where, "question_id"); !status.ok()) return status;
  const auto category = object.find("category");
  if (category == object.end() || !category->is_string()) {
    return BadFile(where, "`category` is not a string");
  }
  prompt.category = category->get<std::string>();
  if (absl::Status status = CheckName(prompt.category, where, "category"); !status.ok()) return status;
  const auto turns = object.find("turns");
  if (turns == object.end() || !turns->is_array() || turns->empty()) {
    return BadFile(where, "`turns` is not a list of at least one string");
  }
  if (!turns->front().is_string()) return BadFile(where, "`turns[0]` is not a string");
  prompt.text = turns->front().get<std::string>();
  if (prompt.text.empty() || prompt.text.size() > kMaxPromptBytes) {
    return BadFile(where, "`turns[0]` is empty or too long",
                   absl::StrCat("1 to ", kMaxPromptBytes, " bytes"));
  }
  return prompt;
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view text, const std::string& path) {
  std::vector<Prompt> prompts;
  size_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = absl::StrCat(path, ":", line_number);
    auto prompt = ParseLine(line, where);
    if (!prompt.ok()) return prompt.status();
    if (prompts.size() == kMaxPrompts) {
      return BadFile(where, "too many prompts", absl::StrCat(kMaxPrompts));
    }
    prompts.push_back(*std::move(prompt));
  }
  if (prompts.empty()) return BadFile(path, "holds no prompt");
  return prompts;
}

absl::StatusOr<std::vector<Prompt>> ReadPromptFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return MissingFile(path, "the file of prompts cannot be opened");
  const std::streamoff size = file.tellg();
  if (size < 0) return BadFile(path, "is not a file that can be read");
  if (static_cast<size_t>(size) > kMaxPromptFileBytes) {
    return BadFile(path, "the file is too large", absl::StrCat(kMaxPromptFileBytes, " bytes"));
  }
  file.seekg(0);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return ParsePrompts(text, path);
}

}  // namespace mirrorsd::bench
