#pragma once
// Token ids in, one at a time; text out as soon as it is final, never a part of a character. All
// outputs and Flush() together are exactly Tokenizer::Decode of all ids, broken UTF-8 included. The
// time for a token does not depend on how many came before. Not for whole texts: Decode does that.
// One object per output stream; one thread at a time. (A decoder that rewrites what it already
// said, such as a Strip at the end of the text, cannot be followed exactly; none of a known
// language model does.)
//
// What is held back until more tokens come:
//   byte-level BPE    the first bytes of an unfinished character;
//   byte fallback     a run of byte tokens that is good UTF-8 so far: the reference turns the whole
//                     run into U+FFFD, a mark per byte, if its end is broken;
//   any other decoder while the text ends in U+FFFD, at most 16 tokens.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "services/text/tokenizer.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {

class IncrementalDecoder {
 public:
  IncrementalDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens);

  // The text that this token completes; often empty. An id that no token has yields nothing.
  std::string Feed(TokenId id);

  // What is still held back. The decoder is then at the beginning of a new text.
  std::string Flush();

 private:
  std::string FeedByteRuns(std::string_view bytes, bool is_byte);
  std::string FeedWindow(TokenId id);
  void EndRun(std::string* text);
  std::string StripLeadingSpaces(std::string text);

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const bool skip_special_tokens_;

  // kBytes.
  LossyUtf8Decoder lossy_;

  // kByteRuns.
  std::string run_;  // held bytes, good so far
  Utf8State run_state_;
  bool run_is_broken_ = false;
  uint32_t spaces_to_strip_ = 0;

  // kWindowed: window_ ends with the tokens whose text is not out yet; those before it are context,
  // and context_text_ is their text.
  std::vector<TokenId> window_;
  size_t num_context_ = 0;
  std::string context_text_;
};

}  // namespace mirrorsd::text
