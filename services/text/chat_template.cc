#include "services/text/chat_template.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/text/model_file.h"
#include "services/text/rust_call.h"
#include "services/text/tokenizer.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {
namespace {

using Json = nlohmann::json;

constexpr char kKwargsField[] = "chat_template_kwargs";

absl::StatusOr<Json> ParseObject(const std::string& bytes, const std::string& path) {
  if (bytes.empty()) return Json::object();
  Json json;
  try {
    json = Json::parse(bytes);
  } catch (const Json::exception& error) {
    return BadFile(path, absl::StrCat("not JSON: ", error.what()));
  }
  if (!json.is_object()) return BadFile(path, "must be a JSON object");
  return json;
}

// A special token is a string or an object with its content.
std::optional<std::string> TokenText(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (!token.is_object()) return std::nullopt;
  const auto content = token.find("content");
  if (content == token.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

void AddSpecialTokens(const Json& config, std::map<std::string, std::string>* tokens) {
  for (const auto& [key, value] : config.items()) {
    if (key.size() < 7 || key.compare(key.size() - 6, 6, "_token") != 0) continue;
    const std::optional<std::string> text = TokenText(value);
    if (text.has_value()) tokens->emplace(key, *text);
  }
}

struct Sources {
  std::string default_source;
  std::string default_path;
  std::string tool_use_source;
  std::string tool_use_path;
};

// tokenizer_config.json has one template, or a list of named ones.
absl::Status FindInConfig(const Json& config, const std::string& path, Sources* sources) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return absl::OkStatus();
  if (found->is_string()) {
    sources->default_source = found->get<std::string>();
    sources->default_path = path + ": chat_template";
    return absl::OkStatus();
  }
  if (!found->is_array()) {
    return BadFile(path, "chat_template must be a string or a list of {name, template}");
  }
  for (const Json& named : *found) {
    if (!named.is_object() || !named.value("name", Json()).is_string() ||
        !named.value("template", Json()).is_string()) {
      return BadFile(path, "chat_template: every entry of the list needs a name and a template");
    }
    const std::string name = named["name"].get<std::string>();
    const std::string source = named["template"].get<std::string>();
    if (name == "default") {
      sources->default_source = source;
      sources->default_path = path + ": chat_template \"default\"";
    } else if (name == "tool_use") {
      sources->tool_use_source = source;
      sources->tool_use_path = path + ": chat_template \"tool_use\"";
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSize(const std::string& field, const std::string& text) {
  if (text.size() <= kMaxTextBytes) return absl::OkStatus();
  return InvalidField(field, absl::StrCat("has ", text.size(), " bytes"),
                      absl::StrCat(kMaxTextBytes, " bytes"));
}

// Everything that a template may name besides messages and tools.
absl::StatusOr<std::string> VariablesJson(const std::map<std::string, std::string>& special_tokens,
                                          const ChatInput& input) {
  Json variables = Json::object();
  for (const auto& [name, text] : special_tokens) variables[name] = text;
  variables["add_generation_prompt"] = input.add_generation_prompt;
  if (!input.template_kwargs_json.empty()) {
    Json kwargs;
    try {
      kwargs = Json::parse(input.template_kwargs_json);
    } catch (const Json::exception& error) {
      return InvalidField(kKwargsField, absl::StrCat("not JSON: ", error.what()));
    }
    if (!kwargs.is_object()) return InvalidField(kKwargsField, "must be a JSON object");
    variables.update(kwargs);
  }
  return variables.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<std::string> ChatMessagesJson(absl::Span<const ChatMessage> messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    for (const auto& [name, text] :
         {std::pair<const char*, const std::string&>("role", messages[i].role),
          std::pair<const char*, const std::string&>("content", messages[i].content)}) {
      if (!IsValidUtf8(text)) {
        return InvalidField(absl::StrCat("messages[", i, "].", name),
                            absl::StrCat("not UTF-8 at byte ", ValidUtf8Prefix(text)));
      }
    }
    list.push_back({{"role", messages[i].role}, {"content", messages[i].content}});
  }
  return list.dump();
}

void ChatTemplate::Free::operator()(MirrorsdTextTemplate* handle) const {
  mirrorsd_text_template_free(handle);
}

absl::StatusOr<ChatTemplate::Handle> ChatTemplate::Compile(const std::string& source,
                                                           const std::string& path) {
  MirrorsdTextTemplate* handle = nullptr;
  RustBytes error;
  const absl::Status status = FromRust(
      mirrorsd_text_template_compile(RustData(source), source.size(), &handle, error.out()), error,
      {path, true});
  if (!status.ok()) return status;
  return Handle(handle);
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Load(
    const ModelFiles& model) {
  ChatTemplateFiles files;
  for (const auto& [name, content] : std::initializer_list<std::pair<const char*, std::string*>>{
           {"chat_template.jinja", &files.jinja},
           {"additional_chat_templates/tool_use.jinja", &files.tool_use_jinja},
           {"tokenizer_config.json", &files.tokenizer_config},
           {"special_tokens_map.json", &files.special_tokens_map}}) {
    absl::StatusOr<std::optional<std::string>> read =
        model.ReadOptional(name, kMaxConfigFileBytes);
    if (!read.ok()) return read.status();
    if (read->has_value()) *content = **std::move(read);
  }
  return Parse(files, model.name());
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Parse(
    const ChatTemplateFiles& files, const std::string& model_dir) {
  const std::string config_path = ModelFiles(model_dir).Path("tokenizer_config.json");
  const absl::StatusOr<Json> config = ParseObject(files.tokenizer_config, config_path);
  if (!config.ok()) return config.status();
  const absl::StatusOr<Json> special_tokens_map = ParseObject(
      files.special_tokens_map, ModelFiles(model_dir).Path("special_tokens_map.json"));
  if (!special_tokens_map.ok()) return special_tokens_map.status();

  Sources sources;
  const absl::Status found = FindInConfig(*config, config_path, &sources);
  if (!found.ok()) return found;
  if (!files.jinja.empty()) {
    sources.default_source = files.jinja;
    sources.default_path = ModelFiles(model_dir).Path("chat_template.jinja");
  }
  if (!files.tool_use_jinja.empty()) {
    sources.tool_use_source = files.tool_use_jinja;
    sources.tool_use_path = ModelFiles(model_dir).Path("additional_chat_templates/tool_use.jinja");
  }
  if (sources.default_source.empty() && sources.tool_use_source.empty()) {
    return MissingFile(ModelFiles(model_dir).Path("chat_template.jinja"),
                       "not found, and tokenizer_config.json has no chat_template; without one the "
                       "model takes prompts and token ids, but no chat messages");
  }

  std::shared_ptr<ChatTemplate> made(new ChatTemplate());
  made->model_dir_ = model_dir;
  AddSpecialTokens(*config, &made->special_tokens_);
  AddSpecialTokens(*special_tokens_map, &made->special_tokens_);
  for (const auto& [source, path, handle] :
       {std::tuple(&sources.default_source, &sources.default_path, &made->default_),
        std::tuple(&sources.tool_use_source, &sources.tool_use_path, &made->tool_use_)}) {
    if (source->empty()) continue;
    absl::StatusOr<Handle> compiled = Compile(*source, *path);
    if (!compiled.ok()) return compiled.status();
    *handle = *std::move(compiled);
  }
  return made;
}

absl::StatusOr<std::string> ChatTemplate::Render(const ChatInput& input) const {
  for (const auto& [field, text] : {std::pair("messages", &input.messages_json),
                                    std::pair("tools", &input.tools_json),
                                    std::pair(kKwargsField, &input.template_kwargs_json)}) {
    const absl::Status status = CheckSize(field, *text);
    if (!status.ok()) return status;
  }
  const absl::StatusOr<std::string> variables = VariablesJson(special_tokens_, input);
  if (!variables.ok()) return variables.status();
  const MirrorsdTextTemplate* chosen = default_.get();
  if (tool_use_ != nullptr && !input.tools_json.empty()) chosen = tool_use_.get();
  if (chosen == nullptr) {
    return InvalidField("messages", absl::StrCat(model_dir_,
                                                 ": the model has no default chat template, only "
                                                 "one for requests with tools"));
  }
  RustBytes text;
  RustBytes error;
  const int32_t code = mirrorsd_text_template_render(
      chosen, RustData(input.messages_json), input.messages_json.size(),
      RustData(input.tools_json), input.tools_json.size(), RustData(*variables), variables->size(),
      absl::ToUnixSeconds(input.now), text.out(), error.out());
  switch (code) {
    case MIRRORSD_TEXT_OK:
      return std::string(text.view());
    case MIRRORSD_TEXT_INVALID:
      return InvalidField("messages",
                          absl::StrCat("the chat template of ", model_dir_,
                                       " fails on them: ", std::string(error.view())));
    case MIRRORSD_TEXT_INVALID_TOOLS:
      return FromRust(code, error, {"tools"});
    default:  // a template's own message, or what is wrong with the messages
      return FromRust(code, error, {"messages"});
  }
}

}  // namespace mirrorsd::text
