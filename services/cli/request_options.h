#pragma once
// From the command line to a GenerateRequest, and from its answer to JSON. Pure but for the file of --chat.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "mirrorsd/v1/inference.pb.h"
#include "services/config/options.h"

namespace mirrorsd::cli {

// Everything but the input: sampling, lengths, stops, speculation.
// Errors:  UsageError for what cannot be read; values out of range are the gateway's to refuse
absl::Status FillParameters(const config::Options& options, v1::GenerateRequest* request);

// The input of --prompt, --prompt-ids or --chat, exactly one of them.
// Errors:  UsageError; BAD_FILE and MISSING_FILE for the file of --chat; a prompt that is not UTF-8
absl::Status FillInput(const config::Options& options, v1::GenerateRequest* request);

// "1,2,3". Errors: UsageError naming `option`
absl::StatusOr<std::vector<TokenId>> ParseTokenIds(std::string_view text,
                                                   const std::string& option);

// A chat file: a JSON list of messages, or an object with `messages` and perhaps `tools`.
absl::Status ParseChat(const std::string& json, const std::string& path, v1::Chat* chat);

// One line for people: "48 tokens in 0.02 s, 2931 tokens/s, 11 rounds, acceptance length 4.27 (35 of 40 drafted
// tokens), 9 branch hits 3.8 deep, 2 misses (empty 2, ngram 0, held 0)"; what does not apply is left out.
std::string StatisticsLine(const v1::GenerateFinal& final);

// The whole answer of `--output json`, pretty-printed with a newline at the end.
std::string AnswerJson(const std::string& request_id, const std::vector<TokenId>& token_ids,
                       const std::string& text,
                       const v1::GenerateFinal& final);

}  // namespace mirrorsd::cli
