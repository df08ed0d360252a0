// Bytes as a file of prompts, which may come from anywhere: refused with its line and what is wrong, or every prompt is
// within its limits and comes back from its own JSON.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "common/check.h"
#include "common/error.h"
#include "services/bench/prompt_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::bench;  // NOLINT
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto prompts = ParsePrompts(text, "prompts.jsonl");
  if (!prompts.ok()) {
    const auto info = mirrorsd::GetErrorInfo(prompts.status());
    CHECK(info.has_value() && info->reason == "BAD_FILE") << prompts.status();
    CHECK(info->field.rfind("prompts.jsonl", 0) == 0) << info->field;
    return 0;
  }
  CHECK(!prompts->empty() && prompts->size() <= kMaxPrompts);
  std::string again;
  for (const Prompt& prompt : *prompts) {
    CHECK(!prompt.id.empty() && prompt.id.size() <= kMaxNameBytes);
    CHECK(!prompt.category.empty() && prompt.category.size() <= kMaxNameBytes);
    CHECK(!prompt.text.empty() && prompt.text.size() <= kMaxPromptBytes);
    again += nlohmann::json{{"question_id", prompt.id}, {"category", prompt.category}, {"turns", {prompt.text}}}
                 .dump() +
             "\n";
  }
  const auto reread = ParsePrompts(again, "prompts.jsonl");
  CHECK(reread.ok()) << reread.status();
  CHECK(*reread == *prompts);
  return 0;
}
