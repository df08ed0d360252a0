#include "workers/engine/model/twins/twin_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "nlohmann/json.hpp"

namespace mirrorsd::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kNumBytes = 256;

void AppendUtf8(uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
    return;
  }
  out->push_back(static_cast<char>(0xC0 | (code >> 6)));
  out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
}

// GPT-2's alphabet of bytes: printable Latin-1 is itself, the other 68 follow one another from U+0100.
std::string ByteCharacter(int byte) {
  const auto is_itself = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  uint32_t code = static_cast<uint32_t>(byte);
  if (!is_itself(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += is_itself(b) ? 0 : 1;
  }
  std::string text;
  AppendUtf8(code, &text);
  return text;
}

std::string TokenizerJson(int32_t vocabulary_size) {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < kNumBytes; ++byte) vocabulary[ByteCharacter(byte)] = byte;
  const std::string space = ByteCharacter(' ');
  std::string filler;  // written as text: ordered_json looks keys up one by one
  for (int32_t token = kNumBytes; token < vocabulary_size; ++token) {
    absl::StrAppend(&filler, ",\"", space, FillerLetters(token - kNumBytes), "\":", token);
  }
  Json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}},
      {"post_processor", nullptr},
      {"decoder",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}},
      {"model",
       {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr}, {"fuse_unk", false},
        {"byte_fallback", false}, {"ignore_merges", false}, {"vocab", std::move(vocabulary)},
        {"merges", Json::array()}}}};
  std::string text = tokenizer.dump();
  const size_t end = text.find("},\"merges\"");
  CHECK(end != std::string::npos);
  text.insert(end, filler);
  return text;
}

constexpr char kChatTemplate[] =
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}";

}  // namespace

std::string FillerLetters(int32_t n) {
  std::string letters;
  for (++n; n > 0; n = (n - 1) / 26) letters.push_back(static_cast<char>('a' + (n - 1) % 26));
  std::reverse(letters.begin(), letters.end());
  return letters;
}

std::map<std::string, std::string> TwinTextFiles(const TwinSpec& spec) {
  const absl::StatusOr<ModelConfig> config = ReadTwinConfig(spec);
  CHECK(config.ok()) << "CheckTwin let it through";
  return {
      {"config.json", TwinConfigJson({spec, TwinRole::kTarget})},
      {"generation_config.json", Json({{"do_sample", false}}).dump(2) + "\n"},
      {"tokenizer.json", TokenizerJson(config->vocabulary_size)},
      {"tokenizer_config.json",
       Json({{"tokenizer_class", "PreTrainedTokenizerFast"},
             {"clean_up_tokenization_spaces", false},
             {"model_max_length", config->max_positions},
             {"chat_template", kChatTemplate}})
               .dump(2) + "\n"},
  };
}

}  // namespace mirrorsd::engine
