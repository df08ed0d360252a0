#include "services/cli/request_options.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "services/cell/exit_code.h"
#include "services/text/utf8.h"

namespace mirrorsd::cli {
namespace {

using cell::UsageError;

constexpr size_t kMaxChatFileBytes = 16 << 20;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status CheckUtf8(const std::string& text, const std::string& field) {
  if (text::IsValidUtf8(text)) return absl::OkStatus();
  return InvalidField(field, "is not valid UTF-8", "UTF-8");
}

absl::Status ParseLogitBias(const std::string& text, v1::SamplingParams* sampling) {
  for (const absl::string_view entry : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(entry, absl::MaxSplits(':', 1));
    int32_t id = 0;
    float bias = 0;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      return UsageError("--logit-bias", absl::StrCat("'", entry, "' is not ID:X"));
    }
    (*sampling->mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

// A whole number that a proto field of 32 bits must hold; what it may be is the gateway's to judge.
absl::Status Fit(const config::Options& options, std::string_view name, std::optional<int32_t>* out) {
  const std::optional<int64_t> value = options.OptionalInteger(name);
  if (!value.has_value()) return absl::OkStatus();
  if (*value != static_cast<int32_t>(*value)) {
    return UsageError(options.Place(name), "does not fit 32 bits");
  }
  *out = static_cast<int32_t>(*value);
  return absl::OkStatus();
}

absl::Status FillSampling(const config::Options& options, v1::SamplingParams* sampling) {
  const auto number = [&](std::string_view name, auto set) {
    const std::optional<double> value = options.OptionalNumber(name);
    if (value.has_value()) (sampling->*set)(static_cast<float>(*value));
  };
  number("temperature", &v1::SamplingParams::set_temperature);
  number("top-p", &v1::SamplingParams::set_top_p);
  number("min-p", &v1::SamplingParams::set_min_p);
  number("repetition-penalty", &v1::SamplingParams::set_repetition_penalty);
  number("presence-penalty", &v1::SamplingParams::set_presence_penalty);
  number("frequency-penalty", &v1::SamplingParams::set_frequency_penalty);
  std::optional<int32_t> top_k;
  std::optional<int32_t> min_tokens;
  if (absl::Status status = Fit(options, "top-k", &top_k); !status.ok()) return status;
  if (absl::Status status = Fit(options, "min-tokens", &min_tokens); !status.ok()) return status;
  if (top_k.has_value()) sampling->set_top_k(*top_k);
  if (min_tokens.has_value()) sampling->set_min_tokens(*min_tokens);
  if (options.Has("seed")) {
    uint64_t seed = 0;
    if (!absl::SimpleAtoi(options.Text("seed"), &seed)) {
      return UsageError(options.Place("seed"), "is not a whole number (limit: 0 to 2^64-1)");
    }
    sampling->set_seed(seed);
  }
  if (!options.Has("logit-bias")) return absl::OkStatus();
  return ParseLogitBias(options.Text("logit-bias"), sampling);
}

// A float as a person would write it: 0.7, not 0.699999988079071.
double Shortest(float value) {
  double shortest = value;
  return absl::SimpleAtod(absl::StrCat(value), &shortest) &&
                 static_cast<float>(shortest) == value
             ? shortest
             : static_cast<double>(value);
}

nlohmann::ordered_json ParametersJson(const v1::SamplingParams& parameters) {
  nlohmann::ordered_json json = {
      {"temperature", Shortest(parameters.temperature())},
      {"top_k", parameters.top_k()},
      {"top_p", Shortest(parameters.top_p())},
      {"min_p", Shortest(parameters.min_p())},
      {"repetition_penalty", Shortest(parameters.repetition_penalty())},
      {"presence_penalty", Shortest(parameters.presence_penalty())},
      {"frequency_penalty", Shortest(parameters.frequency_penalty())},
      {"min_tokens", parameters.min_tokens()},
      {"seed", parameters.seed()},
  };
  nlohmann::ordered_json bias = nlohmann::ordered_json::object();
  for (const auto& [id, value] : std::map<int32_t, float>(parameters.logit_bias().begin(),
                                                          parameters.logit_bias().end())) {
    bias[std::to_string(id)] = Shortest(value);
  }
  json["logit_bias"] = std::move(bias);
  return json;
}

nlohmann::ordered_json SpeculationJson(const v1::SpeculationStatistics& speculation) {
  return {
      {"mode", speculation.mode()},
      {"rounds", speculation.rounds()},
      {"drafted_tokens", speculation.drafted_tokens()},
      {"accepted_tokens", speculation.accepted_tokens()},
      {"mean_acceptance_length", speculation.mean_acceptance_length()},
      {"accepted_per_position", speculation.accepted_per_position()},
      {"drafted_per_position", speculation.drafted_per_position()},
      {"empty_window_rounds", speculation.empty_window_rounds()},
      {"max_batch", speculation.max_batch()},
      {"resumes", speculation.resumes()},
      {"branch_hits", speculation.branch_hits()},
      {"branch_misses", speculation.branch_misses()},
      {"branch_hit_depth", speculation.branch_hit_depth()},
      {"fallbacks",
       {{"empty", speculation.fallbacks().empty()},
        {"ngram", speculation.fallbacks().ngram()},
        {"held", speculation.fallbacks().held()}}},
  };
}

absl::Status AddMessage(const nlohmann::json& message, size_t index, const std::string& path,
                        v1::Chat* chat) {
  const std::string name = absl::StrCat("messages[", index, "]");
  if (!message.is_object()) return BadFile(path, absl::StrCat(name, " is not an object"));
  const auto role = message.find("role");
  const auto content = message.find("content");
  if (role == message.end() || !role->is_string()) {
    return BadFile(path, absl::StrCat(name, ".role is not a string"));
  }
  if (content == message.end() || !content->is_string()) {
    return BadFile(path, absl::StrCat(name, ".content is not a string"));
  }
  v1::ChatMessage* added = chat->add_messages();
  added->set_role(role->get<std::string>());
  added->set_content(content->get<std::string>());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> ParseTokenIds(std::string_view text,
                                                   const std::string& option) {
  std::vector<TokenId> ids;
  if (text.empty()) return ids;
  for (const absl::string_view part : absl::StrSplit(View(text), ',')) {
    TokenId id = 0;
    if (!absl::SimpleAtoi(part, &id)) {
      return UsageError(option, absl::StrCat("'", part, "' is not a token id"));
    }
    ids.push_back(id);
  }
  return ids;
}

absl::Status ParseChat(const std::string& json, const std::string& path, v1::Chat* chat) {
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return BadFile(path, "is not JSON, or not UTF-8");
  const bool is_object = parsed.is_object() && parsed.contains("messages");
  const nlohmann::json& messages = is_object ? parsed["messages"] : parsed;
  if (!messages.is_array()) {
    return BadFile(path, "is neither a list of messages nor an object with a list `messages`");
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (absl::Status status = AddMessage(messages[i], i, path, chat); !status.ok()) return status;
  }
  if (is_object && parsed.contains("tools")) {
    if (!parsed["tools"].is_array()) return BadFile(path, "`tools` is not a list");
    chat->set_tools_json(parsed["tools"].dump());
  }
  return absl::OkStatus();
}

absl::Status FillParameters(const config::Options& options, v1::GenerateRequest* request) {
  absl::Status status = FillSampling(options, request->mutable_sampling());
  if (!status.ok()) return status;
  std::optional<int32_t> max_tokens;
  if (status = Fit(options, "max-tokens", &max_tokens); !status.ok()) return status;
  if (max_tokens.has_value()) request->set_max_tokens(*max_tokens);
  request->set_ignore_eos(options.Flag("ignore-eos"));
  for (const std::string& stop : options.TextList("stop")) {
    if (status = CheckUtf8(stop, "--stop"); !status.ok()) return status;
    request->add_stop(stop);
  }
  if (options.Has("speculation")) {
    request->mutable_speculation()->set_mode(options.Text("speculation"));
  }
  if (options.Has("num-speculative-tokens")) {
    request->mutable_speculation()->set_num_speculative_tokens(
        static_cast<int32_t>(options.Integer("num-speculative-tokens")));
  }
  if (options.Has("branch-top-k")) {
    request->mutable_speculation()->set_branch_top_k(static_cast<int32_t>(options.Integer("branch-top-k")));
  }
  return absl::OkStatus();
}

absl::Status FillInput(const config::Options& options, v1::GenerateRequest* request) {
  const int given = options.Has("prompt") + options.Has("prompt-ids") + options.Has("chat");
  if (given != 1) {
    return UsageError("--prompt", "exactly one of --prompt, --prompt-ids and --chat is needed");
  }
  if (options.Has("prompt")) {
    const std::string prompt = options.Text("prompt");
    if (absl::Status status = CheckUtf8(prompt, "--prompt"); !status.ok()) return status;
    request->set_prompt(prompt);
    return absl::OkStatus();
  }
  if (options.Has("prompt-ids")) {
    auto ids = ParseTokenIds(options.Text("prompt-ids"), options.Place("prompt-ids"));
    if (!ids.ok()) return ids.status();
    request->mutable_token_ids()->mutable_ids()->Assign(ids->begin(), ids->end());
    return absl::OkStatus();
  }
  const std::string path = options.Text("chat");
  std::ifstream file(path, std::ios::binary);
  if (!file) return MissingFile(path, "the file of --chat cannot be opened");
  const std::string json{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (json.size() > kMaxChatFileBytes) {
    return BadFile(path, "the file is too large", absl::StrCat(kMaxChatFileBytes, " bytes"));
  }
  return ParseChat(json, path, request->mutable_chat());
}

std::string StatisticsLine(const v1::GenerateFinal& final) {
  const v1::SpeculationStatistics& speculation = final.speculation();
  const double seconds = final.timing().total_seconds();
  const int32_t tokens = final.usage().completion_tokens();
  std::string line = absl::StrFormat("%d tokens in %.2f s, %.0f tokens/s, %d rounds", tokens, seconds,
                                     seconds > 0 ? tokens / seconds : 0.0, speculation.rounds());
  if (speculation.drafted_tokens() > 0) {
    absl::StrAppendFormat(&line, ", acceptance length %.2f (%d of %d drafted tokens)",
                          speculation.mean_acceptance_length(), speculation.accepted_tokens(),
                          speculation.drafted_tokens());
  }
  if (speculation.branch_hits() + speculation.branch_misses() > 0) {
    absl::StrAppendFormat(&line, ", %d branch hits %.1f deep, %d misses (empty %d, ngram %d, held %d)",
                          speculation.branch_hits(), speculation.branch_hit_depth(),
                          speculation.branch_misses(), speculation.fallbacks().empty(),
                          speculation.fallbacks().ngram(), speculation.fallbacks().held());
  }
  return line;
}

std::string AnswerJson(const std::string& request_id, const std::vector<TokenId>& token_ids,
                       const std::string& text, const v1::GenerateFinal& final) {
  const double seconds = final.timing().total_seconds();
  const double first = final.timing().time_to_first_token_seconds();
  const int32_t tokens = final.usage().completion_tokens();
  const nlohmann::ordered_json json = {
      {"request_id", request_id},
      {"token_ids", token_ids},
      {"text", text},
      {"finish_reason", final.finish_reason()},
      {"seed", final.parameters().seed()},
      {"parameters", ParametersJson(final.parameters())},
      {"usage",
       {{"prompt_tokens", final.usage().prompt_tokens()}, {"completion_tokens", tokens}}},
      {"speculation", SpeculationJson(final.speculation())},
      {"timing",
       {{"queue_seconds", final.timing().queue_seconds()},
        {"time_to_first_token_seconds", first},
        {"total_seconds", seconds},
        {"tokens_per_second", tokens > 1 && seconds > first ? (tokens - 1) / (seconds - first)
                                                            : 0.0}}},
  };
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace mirrorsd::cli
