#pragma once
// A model's chat template: messages in, the prompt's text out, as transformers' apply_chat_template
// gives it. The text already has the begin token, so it is encoded with add_special_tokens = false.
// Not a parser of what the model answers. Immutable; every method may be called from any number of
// threads.

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "services/text/model_file.h"

extern "C" struct MirrorsdTextTemplate;

namespace mirrorsd::text {

// The bytes of the files that say how a model chats; an absent file is empty.
struct ChatTemplateFiles {
  std::string jinja;               // chat_template.jinja; wins over tokenizer_config.json's
  std::string tool_use_jinja;      // additional_chat_templates/tool_use.jinja
  std::string tokenizer_config;    // tokenizer_config.json: chat_template, special tokens
  std::string special_tokens_map;  // special_tokens_map.json: special tokens that the former lacks
};

struct ChatInput {
  std::string messages_json;         // a JSON list of {"role": ..., "content": ..., ...}, not empty
  std::string tools_json;            // a JSON list; empty: no tools
  std::string template_kwargs_json;  // a JSON object of further variables; empty: none
  bool add_generation_prompt = true;
  absl::Time now;  // what strftime_now tells, in UTC
};

struct ChatMessage {
  std::string role;
  std::string content;
};

// messages_json for plain messages.
// Errors:  InvalidField("messages[i].role" or ".content") for what is not UTF-8
absl::StatusOr<std::string> ChatMessagesJson(absl::Span<const ChatMessage> messages);

class ChatTemplate {
 public:
  // Reads the files of ChatTemplateFiles from a model folder.
  // Errors:  NOT_FOUND if the model has no template (a base model: only its chat is impossible);
  //          a file that is broken, a template that does not compile, each naming its path
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const ModelFiles& files);

  // The same from bytes; `model_dir` stands for the folder in messages.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Parse(const ChatTemplateFiles& files,
                                                                   const std::string& model_dir);

  // Errors:  InvalidField("messages") with the template's own message if it calls raise_exception;
  //          InvalidField of messages, tools or chat_template_kwargs if they are of another form
  absl::StatusOr<std::string> Render(const ChatInput& input) const;

 private:
  struct Free {
    void operator()(MirrorsdTextTemplate* handle) const;
  };
  using Handle = std::unique_ptr<MirrorsdTextTemplate, Free>;

  ChatTemplate() = default;

  static absl::StatusOr<Handle> Compile(const std::string& source, const std::string& path);

  Handle default_;   // may be empty if there is tool_use_
  Handle tool_use_;  // used when tools are given; often empty
  std::map<std::string, std::string> special_tokens_;  // "bos_token" -> "<s>"
  std::string model_dir_;
};

}  // namespace mirrorsd::text
