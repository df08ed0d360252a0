#include "services/wire/inference_wire.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "services/wire/field_check.h"
#include "services/wire/limits.h"

namespace mirrorsd::wire {
namespace {

void ParseLogitBias(const v1::SamplingParams& message, const Field& field, Checks* checks,
                    SamplingOverrides* sampling) {
  checks->Count(field, static_cast<int64_t>(message.logit_bias().size()), 0, kMaxLogitBias);
  if (!checks->ok()) return;
  sampling->logit_bias.assign(message.logit_bias().begin(), message.logit_bias().end());
  std::sort(sampling->logit_bias.begin(), sampling->logit_bias.end());
  for (const auto& [token, bias] : sampling->logit_bias) {
    const Field entry(field, "", token);
    checks->NotNegative(entry, token);
    checks->FloatInRange(entry, bias, -100, 100);
  }
}

SamplingOverrides ParseSampling(const v1::SamplingParams& message, const Field& field,
                                Checks* checks) {
  SamplingOverrides sampling;
  const auto number = [&](bool has, float value, const char* name, float low, float high,
                          bool above_low, std::optional<float>* out) {
    if (!has) return;
    checks->FloatInRange(Field(field, name), value, low, high, above_low);
    *out = value;
  };
  number(message.has_temperature(), message.temperature(), "temperature", 0, 100, false,
         &sampling.temperature);
  number(message.has_top_p(), message.top_p(), "top_p", 0, 1, true, &sampling.top_p);
  number(message.has_min_p(), message.min_p(), "min_p", 0, 1, false, &sampling.min_p);
  number(message.has_repetition_penalty(), message.repetition_penalty(), "repetition_penalty", 0,
         100, true, &sampling.repetition_penalty);
  number(message.has_presence_penalty(), message.presence_penalty(), "presence_penalty", -2, 2,
         false, &sampling.presence_penalty);
  number(message.has_frequency_penalty(), message.frequency_penalty(), "frequency_penalty", -2, 2,
         false, &sampling.frequency_penalty);
  if (message.has_top_k()) {
    checks->InRange(Field(field, "top_k"), message.top_k(), -1, kMaxContextTokens);
    sampling.top_k = std::max(message.top_k(), 0);
  }
  if (message.has_min_tokens()) {
    checks->InRange(Field(field, "min_tokens"), message.min_tokens(), 0, kMaxContextTokens);
    sampling.min_tokens = message.min_tokens();
  }
  if (message.has_seed()) sampling.seed = message.seed();
  sampling.sample_index = message.sample_index();
  ParseLogitBias(message, Field(field, "logit_bias"), checks, &sampling);
  return sampling;
}

ChatRequest ParseChat(const v1::Chat& message, const Field& field, Checks* checks) {
  ChatRequest chat;
  const Field messages(field, "messages");
  checks->Count(messages, message.messages_size(), 1, kMaxChatMessages);
  for (int i = 0; i < message.messages_size() && checks->ok(); ++i) {
    const Field entry(field, "messages", i);
    checks->Bytes(Field(entry, "role"), message.messages(i).role(), 1, kMaxRoleBytes);
    checks->Bytes(Field(entry, "content"), message.messages(i).content(), 0, kMaxPromptBytes);
    chat.messages.emplace_back(message.messages(i).role(), message.messages(i).content());
  }
  checks->Bytes(Field(field, "tools_json"), message.tools_json(), 0, kMaxToolsBytes);
  chat.tools_json = message.tools_json();
  if (message.has_add_generation_prompt()) {
    chat.add_generation_prompt = message.add_generation_prompt();
  }
  return chat;
}

void ParseInput(const v1::GenerateRequest& message, const Field& root, Checks* checks,
                GenerateCommand* command) {
  switch (message.input_case()) {
    case v1::GenerateRequest::kPrompt:
      checks->Require(!message.prompt().empty(), Field(root, "prompt"), "is empty",
                      "at least 1 byte");
      checks->Bytes(Field(root, "prompt"), message.prompt(), 1, kMaxPromptBytes);
      command->input = message.prompt();
      return;
    case v1::GenerateRequest::kTokenIds: {
      const auto& ids = message.token_ids().ids();
      checks->Require(!ids.empty(), Field(root, "token_ids"), "is empty", "at least 1 token");
      checks->TokenIds(Field(root, "token_ids"), ids, 1, kMaxPromptTokens);
      command->input = std::vector<TokenId>(ids.begin(), ids.end());
      return;
    }
    case v1::GenerateRequest::kChat:
      command->input = ParseChat(message.chat(), Field(root, "chat"), checks);
      return;
    case v1::GenerateRequest::INPUT_NOT_SET:
      checks->Require(false, Field(root, "prompt"), "is missing",
                      "one of prompt, token_ids and chat");
      return;
  }
}

void ParseStops(const v1::GenerateRequest& message, const Field& root, Checks* checks,
                GenerateCommand* command) {
  checks->Count(Field(root, "stop"), message.stop_size(), 0, kMaxPublicStops);
  for (int i = 0; i < message.stop_size(); ++i) {
    checks->Bytes(Field(root, "stop", i), message.stop(i), 1, kMaxPublicStopBytes);
  }
  command->stop.assign(message.stop().begin(), message.stop().end());
}

}  // namespace

absl::StatusOr<SpeculationMode> ParseSpeculationMode(const std::string& text,
                                                     const std::string& field) {
  const absl::string_view list(kOfferedSpeculationModes.data(), kOfferedSpeculationModes.size());
  const std::vector<absl::string_view> offered = absl::StrSplit(list, '|');
  const std::string limit = absl::StrJoin(offered, " or ");
  const std::optional<SpeculationMode> mode = FindSpeculationMode(text);
  if (!mode.has_value()) {
    return InvalidField(field, absl::StrCat("'", WireText(text, 64), "' is unknown"), limit);
  }
  if (std::find(offered.begin(), offered.end(), text) == offered.end()) {
    return InvalidField(field, absl::StrCat("'", text, "' is not in this version yet"), limit);
  }
  return *mode;
}

const char* FinishReasonName(FinishReason reason) {
  constexpr const char* kNames[] = {"", "stop", "length", "cancelled", "error"};
  return kNames[static_cast<size_t>(reason)];
}

absl::StatusOr<GenerateCommand> Parse(const v1::GenerateRequest& message) {
  Checks checks;
  const Field root("");
  GenerateCommand command;
  checks.Bytes(Field(root, "request_id"), message.request_id(), 0, kMaxRequestIdBytes);
  checks.Bytes(Field(root, "model"), message.model(), 0, kMaxNameBytes);
  ParseInput(message, root, &checks, &command);
  command.sampling = ParseSampling(message.sampling(), Field(root, "sampling"), &checks);
  if (message.has_max_tokens()) {
    checks.InRange(Field(root, "max_tokens"), message.max_tokens(), 1, kMaxContextTokens);
    command.max_tokens = message.max_tokens();
  }
  ParseStops(message, root, &checks, &command);
  const auto& speculation = message.speculation();
  if (speculation.has_num_speculative_tokens()) {
    checks.InRange(Field(root, "speculation.num_speculative_tokens"),
                   speculation.num_speculative_tokens(), 0, kMaxWindowTokens);
    command.num_speculative_tokens = speculation.num_speculative_tokens();
  }
  if (speculation.has_branch_top_k()) {
    checks.InRange(Field(root, "speculation.branch_top_k"), speculation.branch_top_k(), 1, kMaxBranchTopK);
    command.branch_top_k = speculation.branch_top_k();
  }
  if (!checks.ok()) return checks.status();
  if (speculation.has_mode()) {
    auto mode = ParseSpeculationMode(speculation.mode(), "speculation.mode");
    if (!mode.ok()) return mode.status();
    command.speculation = *mode;
  }
  if (command.max_tokens.has_value() && command.sampling.min_tokens > command.max_tokens) {
    return InvalidField("sampling.min_tokens",
                        absl::StrCat("is ", *command.sampling.min_tokens, ", above max_tokens"),
                        absl::StrCat("0 to ", *command.max_tokens));
  }
  command.request_id = message.request_id();
  command.model = message.model();
  command.ignore_eos = message.ignore_eos();
  if (message.has_skip_special_tokens()) command.skip_special_tokens = message.skip_special_tokens();
  return command;
}

absl::StatusOr<TokenizeCommand> Parse(const v1::TokenizeRequest& message) {
  Checks checks;
  const Field root("");
  TokenizeCommand command;
  checks.Bytes(Field(root, "model"), message.model(), 0, kMaxNameBytes);
  switch (message.input_case()) {
    case v1::TokenizeRequest::kText:
      checks.Bytes(Field(root, "text"), message.text(), 0, kMaxPromptBytes);
      command.input = message.text();
      break;
    case v1::TokenizeRequest::kChat:
      command.input = ParseChat(message.chat(), Field(root, "chat"), &checks);
      break;
    case v1::TokenizeRequest::INPUT_NOT_SET:
      checks.Require(false, Field(root, "text"), "is missing", "one of text and chat");
  }
  if (!checks.ok()) return checks.status();
  command.model = message.model();
  if (message.has_add_special_tokens()) command.add_special_tokens = message.add_special_tokens();
  return command;
}

absl::StatusOr<DetokenizeCommand> Parse(const v1::DetokenizeRequest& message) {
  Checks checks;
  const Field root("");
  checks.Bytes(Field(root, "model"), message.model(), 0, kMaxNameBytes);
  checks.TokenIds(Field(root, "token_ids"), message.token_ids(), 0, kMaxDetokenizeTokens);
  if (!checks.ok()) return checks.status();
  return DetokenizeCommand{message.model(),
                           {message.token_ids().begin(), message.token_ids().end()},
                           message.skip_special_tokens()};
}

void Write(const SamplingParameters& sampling, v1::SamplingParams* message) {
  message->set_temperature(sampling.temperature);
  message->set_top_k(sampling.top_k);
  message->set_top_p(sampling.top_p);
  message->set_min_p(sampling.min_p);
  message->set_repetition_penalty(sampling.repetition_penalty);
  message->set_presence_penalty(sampling.presence_penalty);
  message->set_frequency_penalty(sampling.frequency_penalty);
  message->set_min_tokens(sampling.min_tokens);
  message->set_seed(sampling.seed);
  message->set_sample_index(sampling.sample_index);
  for (const auto& [token, bias] : sampling.logit_bias) {
    (*message->mutable_logit_bias())[token] = bias;
  }
}

void Write(const SpeculationStats& stats, SpeculationMode mode,
           v1::SpeculationStatistics* message) {
  message->set_mode(SpeculationModeName(mode));
  message->set_rounds(stats.rounds);
  message->set_drafted_tokens(stats.drafted_tokens);
  message->set_accepted_tokens(stats.accepted_tokens);
  const double per_round = stats.rounds > 0 ? static_cast<double>(stats.accepted_tokens) /
                                                  static_cast<double>(stats.rounds)
                                            : 0.0;
  message->set_mean_acceptance_length(1.0 + per_round);
  message->mutable_accepted_per_position()->Assign(stats.accepted_per_position.begin(),
                                                   stats.accepted_per_position.end());
  message->mutable_drafted_per_position()->Assign(stats.drafted_per_position.begin(),
                                                  stats.drafted_per_position.end());
  message->set_empty_window_rounds(stats.empty_window_rounds);
  message->set_max_batch(stats.max_batch);
  message->set_resumes(stats.resumes);
  message->set_branch_hits(stats.branch_hits);
  message->set_branch_misses(stats.branch_misses);
  message->set_branch_hit_depth(stats.branch_hits > 0
                                    ? static_cast<double>(stats.branch_hit_depth_sum) /
                                          static_cast<double>(stats.branch_hits)
                                    : 0.0);
  message->mutable_fallbacks()->set_empty(stats.empty_window_rounds);
  message->mutable_fallbacks()->set_ngram(stats.ngram_window_rounds);
  message->mutable_fallbacks()->set_held(stats.held_rounds);
}

}  // namespace mirrorsd::wire
