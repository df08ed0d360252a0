#pragma once
// Prompts for benchmarks from a JSONL file in the form of Spec-Bench: one object a line with `question_id` (a number or
// a string), `category` (a string) and `turns` (a list of strings, of which the first is the prompt). A category
// that is "chat" or begins with "chat_" is asked through the model's chat template. The file may come from
// anywhere: what is wrong is refused with its line and field. Pure but for ReadPromptFile.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mirrorsd::bench {

inline constexpr size_t kMaxPromptFileBytes = 64 << 20;
inline constexpr size_t kMaxPromptBytes = 1 << 20;  // one prompt
inline constexpr size_t kMaxPrompts = 100'000;
inline constexpr size_t kMaxNameBytes = 128;  // of a question_id or a category

struct Prompt {
  std::string id;
  std::string category;
  std::string text;

  bool IsChat() const { return category == "chat" || category.rfind("chat_", 0) == 0; }
  bool operator==(const Prompt&) const = default;
};

// Errors:  BAD_FILE that names path:line and the field; a file without a prompt is one
absl::StatusOr<std::vector<Prompt>> ParsePrompts(std::string_view text, const std::string& path);

// Errors:  MISSING_FILE; those of ParsePrompts
absl::StatusOr<std::vector<Prompt>> ReadPromptFile(const std::string& path);

}  // namespace mirrorsd::bench
