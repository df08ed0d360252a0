#pragma once
// A window without a draft: what followed the same last tokens earlier in the text (prompt lookup). Pure; thread-safe.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"

namespace mirrorsd::scheduler {

// Up to `max_window` tokens that followed the latest earlier occurrence of the last 3, else the last 2
// tokens, within the last 4,096. Empty where they never came before.
// Source: prompt lookup decoding (apoorvumang/prompt-lookup-decoding)
std::vector<TokenId> NgramWindow(absl::Span<const TokenId> tokens, int32_t max_window);

}  // namespace mirrorsd::scheduler
