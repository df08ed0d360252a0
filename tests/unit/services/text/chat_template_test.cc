#include "services/text/chat_template.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/services/text/temporary_folder.h"

namespace mirrorsd::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
using testing::StartsWith;

const char kUser[] = R"([{"role": "user", "content": "Hi"}])";

absl::StatusOr<std::string> Render(const ChatTemplateFiles& files, const ChatInput& input) {
  const auto chat_template = ChatTemplate::Parse(files, "m");
  if (!chat_template.ok()) return chat_template.status();
  return (*chat_template)->Render(input);
}

absl::StatusOr<std::string> RenderJinja(const std::string& jinja, const ChatInput& input) {
  return Render({jinja, "", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})", ""}, input);
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// What transformers rendered, for templates that try each corner of Jinja.
TEST(ChatTemplate, RendersAsTransformers) {
  std::ifstream file("tests/golden/chat_templates/cases.json");
  ASSERT_TRUE(file);
  const Json cases = Json::parse(file);
  ASSERT_GT(cases.size(), 100u);
  for (const Json& item : cases) {
    SCOPED_TRACE(item["name"].get<std::string>());
    ChatInput input;
    input.messages_json = item["messages"].dump();
    if (!item["tools"].is_null()) input.tools_json = item["tools"].dump();
    input.add_generation_prompt = item["add_generation_prompt"];
    input.template_kwargs_json = item["kwargs"].dump();
    const auto text = RenderJinja(item["template"], input);
    if (item.contains("text")) {
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, item["text"].get<std::string>());
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
      if (item["error"].is_string()) {
        EXPECT_EQ(Message(text.status()), "messages: " + item["error"].get<std::string>());
      }
    }
  }
}

TEST(ChatTemplate, IsFoundInEitherPlace) {
  ChatInput input{kUser};
  const std::string config = R"({"chat_template": "config"})";
  EXPECT_EQ(*Render({"file", "", config, ""}, input), "file");
  EXPECT_EQ(*Render({"", "", config, ""}, input), "config");
  const std::string named = R"({"chat_template": [{"name": "default", "template": "plain"},
                                                  {"name": "tool_use", "template": "tools"}]})";
  EXPECT_EQ(*Render({"", "", named, ""}, input), "plain");
  EXPECT_EQ(*Render({"file", "beside", "{}", ""}, input), "file");
  input.tools_json = "[]";
  EXPECT_EQ(*Render({"", "", named, ""}, input), "tools");
  EXPECT_EQ(*Render({"file", "beside", "{}", ""}, input), "beside");
  input.tools_json = "";
  const std::string only_tools = R"({"chat_template": [{"name": "tool_use", "template": "tools"}]})";
  EXPECT_THAT(Message(Render({"", "", only_tools, ""}, input).status()),
              HasSubstr("no default chat template"));
}

TEST(ChatTemplate, SpecialTokensComeFromBothFiles) {
  const ChatInput input{kUser};
  EXPECT_EQ(*Render({"{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", "",
                     R"({"bos_token": "<s>", "pad_token": null})",
                     R"({"bos_token": "<other>", "eos_token": {"content": "</s>", "lstrip": false}})"},
                    input),
            "<s>|</s>|");
}

TEST(ChatTemplate, AFolderWithoutOneSaysSo) {
  TemporaryFolder folder(TemporaryFolder::Files{{"tokenizer_config.json", "{}"}});
  const auto none = ChatTemplate::Load(folder.path());
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(none.status()), StartsWith(folder.path() + "/chat_template.jinja: not found"));
  folder.Write("chat_template.jinja", "{% if %}");
  EXPECT_THAT(Message(ChatTemplate::Load(folder.path()).status()),
              StartsWith(folder.path() + "/chat_template.jinja: syntax error: "));
  folder.Write("chat_template.jinja", "\xFF");
  EXPECT_EQ(Message(ChatTemplate::Load(folder.path()).status()),
            folder.path() + "/chat_template.jinja: not UTF-8 at byte 0");
  folder.Write("chat_template.jinja", "fine");
  EXPECT_TRUE(ChatTemplate::Load(folder.path()).ok());
  folder.Write("tokenizer_config.json", "{\"chat_template\": ");
  EXPECT_THAT(Message(ChatTemplate::Load(folder.path()).status()),
              StartsWith(folder.path() + "/tokenizer_config.json: not JSON: "));
  for (const char* wrong : {R"({"chat_template": 3})", R"({"chat_template": [{"name": "default"}]})",
                            R"({"chat_template": ["x"]})", "[]"}) {
    folder.Write("tokenizer_config.json", wrong);
    EXPECT_EQ(GetErrorInfo(ChatTemplate::Load(folder.path()).status())->field,
              folder.path() + "/tokenizer_config.json");
  }
}

TEST(ChatTemplate, BadInputIsNamed) {
  const auto message_of = [](const ChatInput& input) {
    return Message(RenderJinja("{{ messages[0].content }}", input).status());
  };
  EXPECT_THAT(message_of({"{"}), StartsWith("messages: not JSON: "));
  EXPECT_THAT(message_of({""}), StartsWith("messages: not JSON: "));
  EXPECT_EQ(message_of({"{}"}), "messages: must be a list of messages");
  EXPECT_EQ(message_of({"[]"}), "messages: must hold at least one message");
  EXPECT_EQ(message_of({"[1]"}), "messages: message 0 must be an object with role and content");
  EXPECT_EQ(message_of({R"([{"role": "user"}, {"content": "x"}])"}),
            "messages: message 1 has no role, or one that is not a string");
  EXPECT_EQ(message_of({"[{\"role\": \"user\", \"content\": \"\xFF\"}]"}),
            "messages: not UTF-8 at byte 30");
  EXPECT_THAT(message_of({std::string(100000, '[')}), StartsWith("messages: not JSON: recursion"));
  EXPECT_EQ(message_of({std::string((16 << 20) + 1, ' ')}),
            "messages: has 16777217 bytes (limit: 16777216 bytes)");
  EXPECT_EQ(message_of({kUser, "{}"}), "tools: must be a list of tools");
  EXPECT_THAT(message_of({kUser, "[\xFF]"}), StartsWith("tools: not UTF-8"));
  EXPECT_EQ(message_of({kUser, "", "[]"}), "chat_template_kwargs: must be a JSON object");
  EXPECT_THAT(message_of({kUser, "", "{"}), StartsWith("chat_template_kwargs: not JSON: "));
}

TEST(ChatTemplate, AFailingTemplateIsTheMessagesError) {
  const absl::Status status =
      RenderJinja("\n{{ messages[0].content.nothing.here }}", {kUser}).status();
  EXPECT_EQ(GetErrorInfo(status)->field, "messages");
  EXPECT_THAT(Message(status), HasSubstr("the chat template of m fails on them: undefined value"));
  EXPECT_THAT(Message(status), HasSubstr("(line 2)"));
}

TEST(ChatTemplate, KwargsReachTheTemplateButReplaceNoMessages) {
  ChatInput input{kUser};
  input.template_kwargs_json = R"({"thinking": false, "messages": [], "bos_token": "<x>"})";
  EXPECT_EQ(*RenderJinja("{{ bos_token }}{{ thinking }}{{ messages | length }}", input), "<x>False1");
}

TEST(ChatTemplate, TheDateIsGivenNotRead) {
  ChatInput input{kUser};
  input.now = absl::FromUnixSeconds(1722816000);
  EXPECT_EQ(*RenderJinja("{{ strftime_now('%d %b %Y') }}", input), "05 Aug 2024");
}

TEST(ChatTemplate, PlainMessagesBecomeJson) {
  const auto json = ChatMessagesJson(
      std::vector<ChatMessage>{{"user", "a \"b\"\n\u00e9"}, {"assistant", ""}});
  EXPECT_EQ(*json, "[{\"role\":\"user\",\"content\":\"a \\\"b\\\"\\n\u00e9\"},"
                   "{\"role\":\"assistant\",\"content\":\"\"}]");
  const auto bad = ChatMessagesJson(std::vector<ChatMessage>{{"user", "a"}, {"user", "b\xFF"}});
  EXPECT_EQ(Message(bad.status()), "messages[1].content: not UTF-8 at byte 1");
}

}  // namespace
}  // namespace mirrorsd::text
