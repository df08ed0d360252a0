#pragma once
// The output of one request on its way to the client: committed tokens in, delivered tokens and their text
// out, token by token, so that a stop string ends the output at the token that completes it. Tokens behind
// that one are not delivered, whatever was committed. One thread at a time.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "services/text/incremental_decoder.h"
#include "services/text/stop_strings.h"
#include "services/text/tokenizer.h"

namespace mirrorsd::gateway {

class OutputText {
 public:
  struct Delivery {
    std::vector<TokenId> token_ids;
    std::string text;  // what these tokens complete; nothing of a stop string
  };

  OutputText(std::shared_ptr<const text::Tokenizer> tokenizer, bool skip_special_tokens,
             std::vector<std::string> stop)
      : decoder_(std::move(tokenizer), skip_special_tokens), stop_(std::move(stop)) {}

  Delivery Take(absl::Span<const TokenId> token_ids) {
    Delivery delivery;
    for (const TokenId id : token_ids) {
      if (stopped()) break;
      delivery.token_ids.push_back(id);
      delivery.text += stop_.Feed(decoder_.Feed(id));
    }
    num_delivered_ += static_cast<int32_t>(delivery.token_ids.size());
    return delivery;
  }

  // The output is over: the text that was held back.
  std::string Finish() {
    if (stopped()) return "";
    std::string text = stop_.Feed(decoder_.Flush());
    if (!stopped()) text += stop_.Flush();
    return text;
  }

  bool stopped() const { return stop_.match().has_value(); }
  int32_t num_delivered() const { return num_delivered_; }

 private:
  text::IncrementalDecoder decoder_;
  text::StopStringMatcher stop_;
  int32_t num_delivered_ = 0;
};

}  // namespace mirrorsd::gateway
