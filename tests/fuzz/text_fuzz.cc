// Any bytes where services/text takes some: the first byte chooses the surface, the rest is its
// input. Each gives an error with a named field, or a result that holds what its header promises.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/check.h"
#include "common/error.h"
#include "services/text/chat_template.h"
#include "services/text/generation_config.h"
#include "services/text/incremental_decoder.h"
#include "services/text/stop_strings.h"
#include "services/text/tokenizer.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {
namespace {

void CheckNamed(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  CHECK(info.has_value() && !info->field.empty());
  CHECK(status.code() == absl::StatusCode::kInvalidArgument ||
        status.code() == absl::StatusCode::kNotFound)
      << status;
}

// Text in, the same text out of its own tokens, whole and in pieces.
void FuzzTokenizer(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text) {
  const auto ids = tokenizer->Encode(text, false, "prompt");
  CHECK_EQ(ids.ok(), IsValidUtf8(text));
  if (!ids.ok()) return CheckNamed(ids.status());
  IncrementalDecoder decoder(tokenizer, false);
  std::string pieces;
  for (const TokenId id : *ids) {
    const std::string piece = decoder.Feed(id);
    CHECK(IsValidUtf8(piece));
    pieces += piece;
  }
  pieces += decoder.Flush();
  CHECK_EQ(pieces, tokenizer->Decode(*ids, false).value());
}

// Two bytes an id, whatever they are.
void FuzzIds(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view bytes) {
  IncrementalDecoder decoder(tokenizer, true);
  std::vector<TokenId> ids;
  std::string pieces;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    ids.push_back(static_cast<uint8_t>(bytes[i]) + 256 * (static_cast<uint8_t>(bytes[i + 1]) % 3));
    pieces += decoder.Feed(ids.back());
  }
  CHECK_EQ(pieces + decoder.Flush(), tokenizer->Decode(ids, true).value());
}

void FuzzMessages(std::string_view json, bool as_tools) {
  static const auto chat_template =
      ChatTemplate::Load("tests/golden/qwen3-qknorm-bf16").value();
  ChatInput input;
  input.messages_json = as_tools ? R"([{"role": "user", "content": "Hi"}])" : std::string(json);
  if (as_tools) input.tools_json = std::string(json);
  const auto text = chat_template->Render(input);
  if (!text.ok()) return CheckNamed(text.status());
  CHECK(IsValidUtf8(*text));
}

// A tokenizer that loads can be used: encoding fails or gives ids that it has, what it decodes is UTF-8, and its
// incremental decoder is as bounded.
void FuzzTokenizerFile(std::string_view json) {
  const auto tokenizer = Tokenizer::Parse(json);
  if (!tokenizer.ok()) return CheckNamed(tokenizer.status());
  CHECK_EQ((*tokenizer)->VocabularyFingerprint().size(), size_t{64});
  for (const char* text : {"", "one two 1.5", "\xE2\x82\xAC\n\n  \xF0\x9F\x98\x80</s><s>"}) {
    const auto ids = (*tokenizer)->Encode(text, true, "text");
    if (!ids.ok()) continue;
    for (const TokenId id : *ids) CHECK(id >= 0 && id < (1 << 24) + 1);
    const auto decoded = (*tokenizer)->Decode(*ids, false);
    CHECK(!decoded.ok() || IsValidUtf8(*decoded));
  }
  IncrementalDecoder decoder(*tokenizer, true);
  for (TokenId id = 0; id < 40; ++id) CHECK(IsValidUtf8(decoder.Feed(id % 20)));
  CHECK(IsValidUtf8(decoder.Flush()));
}

// A template of any text: it does not compile, it fails, or it gives at most so much text in a bounded time.
void FuzzTemplate(std::string_view source) {
  constexpr size_t kMaxOutputBytes = size_t{16} << 20;
  const auto made = ChatTemplate::Parse({std::string(source), "", "", ""}, "fuzz");
  if (!made.ok()) return CheckNamed(made.status());
  const auto text = (*made)->Render(
      {.messages_json = R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])",
       .tools_json = R"([{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}])"});
  if (!text.ok()) return CheckNamed(text.status());
  CHECK(IsValidUtf8(*text) && text->size() <= kMaxOutputBytes);
}

// Up to the first zero byte the stop strings, by lines; then the text, in pieces of three
// characters.
void FuzzStopStrings(std::string_view bytes) {
  const size_t cut = bytes.find('\0');
  if (cut == std::string_view::npos || !IsValidUtf8(bytes)) return;
  std::vector<std::string> stops;
  for (size_t begin = 0; begin < cut;) {
    const size_t end = std::min(bytes.find('\n', begin), cut);
    stops.emplace_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  const absl::Status status = ValidateStopStrings(stops);
  if (!status.ok()) return CheckNamed(status);
  StopStringMatcher matcher(stops);
  const std::string_view text = bytes.substr(cut + 1);
  std::string delivered;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(begin + 3, text.size());
    while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;
    delivered += matcher.Feed(text.substr(begin, end - begin));
    begin = end;
  }
  delivered += matcher.Flush();
  CHECK_EQ(delivered, text.substr(0, matcher.match() ? matcher.match()->begin_bytes : text.size()));
}

}  // namespace
}  // namespace mirrorsd::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::text;  // NOLINT
  if (size == 0) return 0;
  static const auto bytes_tokenizer = Tokenizer::Load("tests/golden/llama3-gqa-tied-bf16").value();
  static const auto runs_tokenizer = Tokenizer::Load("tests/golden/llama2-mha-f32").value();
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  absl::Status status;
  switch (data[0]) {
    case 't': FuzzTokenizer(bytes_tokenizer, input); break;
    case 'u': FuzzTokenizer(runs_tokenizer, input); break;
    case 'i': FuzzIds(bytes_tokenizer, input); break;
    case 'j': FuzzIds(runs_tokenizer, input); break;
    case 'm': FuzzMessages(input, false); break;
    case 'n': FuzzMessages(input, true); break;
    case 's': FuzzStopStrings(input); break;
    case 'g': status = ParseGenerationConfig(input, "generation_config.json").status(); break;
    case 'k': FuzzTokenizerFile(input); break;
    case 'r': FuzzTemplate(input); break;
    case 'c':
      status = ChatTemplate::Parse({"", "", std::string(input), ""}, "fuzz").status();
      break;
    default: return 0;
  }
  if (!status.ok()) CheckNamed(status);
  return 0;
}
