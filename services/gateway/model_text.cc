#include "services/gateway/model_text.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/error.h"

namespace mirrorsd::gateway {

absl::StatusOr<ModelText> LoadModelText(const text::ModelFiles& files,
                                        const std::string& served_name) {
  ModelText model;
  std::filesystem::path path = std::filesystem::path(files.name()).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  model.name = served_name.empty() ? path.filename().string() : served_name;

  auto tokenizer = text::Tokenizer::Load(files);
  if (!tokenizer.ok()) return tokenizer.status();
  model.tokenizer = *std::move(tokenizer);

  auto chat = text::ChatTemplate::Load(files);
  if (chat.ok()) {
    model.chat_template = *std::move(chat);
  } else if (chat.status().code() == absl::StatusCode::kNotFound) {
    model.chat_status = chat.status();  // a base model: only its chat is impossible
  } else {
    return chat.status();
  }

  auto generation = text::LoadGenerationConfig(files);
  if (!generation.ok()) return generation.status();
  model.generation = *std::move(generation);
  return model;
}

absl::StatusOr<std::vector<TokenId>> EncodeChat(const ModelText& model,
                                                const std::vector<text::ChatMessage>& messages,
                                                const std::string& tools_json,
                                                bool add_generation_prompt) {
  if (model.chat_template == nullptr) {
    return InvalidField("chat", absl::StrCat("the model ", model.name, " has no chat template: ",
                                             model.chat_status.message()));
  }
  auto messages_json = text::ChatMessagesJson(messages);
  if (!messages_json.ok()) return messages_json.status();
  auto prompt = model.chat_template->Render({.messages_json = *std::move(messages_json),
                                             .tools_json = tools_json,
                                             .add_generation_prompt = add_generation_prompt,
                                             .now = absl::Now()});
  if (!prompt.ok()) return prompt.status();
  return model.tokenizer->Encode(*prompt, /*add_special_tokens=*/false, "chat");
}

}  // namespace mirrorsd::gateway
