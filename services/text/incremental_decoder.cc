#include "services/text/incremental_decoder.h"

#include <utility>

#include "absl/status/statusor.h"

namespace mirrorsd::text {
namespace {

constexpr size_t kMaxHeldTokens = 16;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// What `text` has beyond `before`. A decoder that rewrites what it already said has no right
// answer; then the new text goes out from where the two differ.
std::string Beyond(const std::string& text, const std::string& before) {
  size_t common_bytes = 0;
  while (common_bytes < before.size() && common_bytes < text.size() &&
         before[common_bytes] == text[common_bytes]) {
    ++common_bytes;
  }
  while (common_bytes > 0 && common_bytes < text.size() && (text[common_bytes] & 0xC0) == 0x80) {
    --common_bytes;
  }
  return text.substr(common_bytes);
}

}  // namespace

IncrementalDecoder::IncrementalDecoder(std::shared_ptr<const Tokenizer> tokenizer,
                                       bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)),
      skip_special_tokens_(skip_special_tokens),
      spaces_to_strip_(tokenizer_->strip_leading_spaces_) {}

std::string IncrementalDecoder::Feed(TokenId id) {
  const Tokenizer::Entry* entry = tokenizer_->Find(id);
  if (entry == nullptr || (entry->special && skip_special_tokens_)) return "";
  const std::string_view bytes = tokenizer_->TokenBytes(id);
  switch (tokenizer_->scheme_) {
    case DecodeScheme::kBytes: {
      std::string text;
      lossy_.Feed(bytes, &text);
      return text;
    }
    case DecodeScheme::kByteRuns:
      return FeedByteRuns(bytes, entry->byte_fallback);
    case DecodeScheme::kWindowed:
      break;
  }
  return FeedWindow(id);
}

std::string IncrementalDecoder::FeedByteRuns(std::string_view bytes, bool is_byte) {
  std::string text;
  if (!is_byte) {
    EndRun(&text);
    text.append(bytes);
  } else if (run_is_broken_) {
    text.append(kReplacementCharacter);
  } else {
    run_.push_back(bytes[0]);
    if (run_state_.Take(static_cast<uint8_t>(bytes[0])) == Utf8State::Step::kInvalid) {
      run_is_broken_ = true;
      for (size_t i = 0; i < run_.size(); ++i) text.append(kReplacementCharacter);
      run_.clear();
    }
  }
  return StripLeadingSpaces(std::move(text));
}

void IncrementalDecoder::EndRun(std::string* text) {
  if (!run_state_.is_partial()) {
    text->append(run_);
  } else {
    for (size_t i = 0; i < run_.size(); ++i) text->append(kReplacementCharacter);
  }
  run_.clear();
  run_state_ = Utf8State();
  run_is_broken_ = false;
}

std::string IncrementalDecoder::StripLeadingSpaces(std::string text) {
  size_t num_stripped = 0;
  while (spaces_to_strip_ > 0 && num_stripped < text.size()) {
    if (text[num_stripped] != ' ') {
      spaces_to_strip_ = 0;
      break;
    }
    --spaces_to_strip_;
    ++num_stripped;
  }
  text.erase(0, num_stripped);
  return text;
}

std::string IncrementalDecoder::FeedWindow(TokenId id) {
  window_.push_back(id);
  const absl::StatusOr<std::string> decoded = tokenizer_->Decode(window_, skip_special_tokens_);
  if (!decoded.ok()) return "";  // the crate failed on ids of its own vocabulary: no text, no crash
  const size_t num_held = window_.size() - num_context_;
  if (EndsWith(*decoded, kReplacementCharacter) && num_held < kMaxHeldTokens) return "";
  std::string text = Beyond(*decoded, context_text_);
  // The tokens that just went out are the next one's context: joins depend on a token's neighbours.
  window_.erase(window_.begin(), window_.begin() + num_context_);
  num_context_ = window_.size();
  context_text_ = tokenizer_->Decode(window_, skip_special_tokens_).value_or("");
  return text;
}

std::string IncrementalDecoder::Flush() {
  std::string text;
  switch (tokenizer_->scheme_) {
    case DecodeScheme::kBytes:
      lossy_.Flush(&text);
      break;
    case DecodeScheme::kByteRuns:
      EndRun(&text);
      text = StripLeadingSpaces(std::move(text));
      break;
    case DecodeScheme::kWindowed:
      if (window_.size() > num_context_) {
        text = Beyond(tokenizer_->Decode(window_, skip_special_tokens_).value_or(""),
                      context_text_);
      }
      break;
  }
  spaces_to_strip_ = tokenizer_->strip_leading_spaces_;
  window_.clear();
  num_context_ = 0;
  context_text_.clear();
  return text;
}

}  // namespace mirrorsd::text
