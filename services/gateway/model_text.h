#pragma once
// The text side of a served model: tokenizer, chat template, defaults of its generation_config.json. Reads
// the folder's text files only; weights are the verifier's. Immutable after Load; callable from any thread.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/text/chat_template.h"
#include "services/text/generation_config.h"
#include "services/text/tokenizer.h"

namespace mirrorsd::gateway {

struct ModelText {
  std::string name;  // as the API shows it
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // none where the model has none
  absl::Status chat_status;                                 // why there is none
  text::GenerationConfig generation;
};

// `served_name` may be empty: the folder's last component then.
// Errors:  those of the files; a missing chat template is none
absl::StatusOr<ModelText> LoadModelText(const text::ModelFiles& files,
                                        const std::string& served_name);

// The prompt's tokens of a chat: rendered, then encoded without further special tokens.
// Errors:  the template's own, a model without one
absl::StatusOr<std::vector<TokenId>> EncodeChat(const ModelText& model,
                                                const std::vector<text::ChatMessage>& messages,
                                                const std::string& tools_json,
                                                bool add_generation_prompt);

}  // namespace mirrorsd::gateway
