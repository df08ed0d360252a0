#pragma once
// The public API's messages: proto -> what was asked for, and answers -> proto. Everything that can be judged
// from the message alone is judged here, before any work; what needs the model (its vocabulary, its
// context) is the gateway's. Pure functions.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/request.h"
#include "common/sampling_parameters.h"
#include "mirrorsd/v1/inference.pb.h"

namespace mirrorsd::wire {

inline constexpr size_t kMaxPromptBytes = 16 << 20;
inline constexpr int32_t kMaxChatMessages = 4096;
inline constexpr size_t kMaxRoleBytes = 64;
inline constexpr size_t kMaxToolsBytes = 1 << 20;
inline constexpr int32_t kMaxPublicStops = 16;
inline constexpr size_t kMaxPublicStopBytes = 256;
inline constexpr int32_t kMaxDetokenizeTokens = 1 << 18;  // each may be a long text
// Messages, strings and unknown fields of one request together. An empty entry costs its sender two bytes and
// us a hundred, so they are counted before the message is built.
inline constexpr int32_t kMaxRequestEntries = 65536;

struct ChatRequest {
  std::vector<std::pair<std::string, std::string>> messages;  // role, content; at least one
  std::string tools_json;
  bool add_generation_prompt = true;
};

// Unset takes the model's default.
struct SamplingOverrides {
  std::optional<float> temperature;
  std::optional<int32_t> top_k;  // -1 was made 0: off
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<int32_t> min_tokens;
  std::optional<uint64_t> seed;
  uint32_t sample_index = 0;
  std::vector<std::pair<TokenId, float>> logit_bias;  // by increasing id
};

struct GenerateCommand {
  std::string request_id;  // may be empty
  std::string model;       // may be empty
  std::variant<std::string, std::vector<TokenId>, ChatRequest> input;
  SamplingOverrides sampling;
  std::optional<int32_t> max_tokens;  // >= 1
  bool ignore_eos = false;
  std::vector<std::string> stop;
  SpeculationMode speculation = SpeculationMode::kDefault;
  std::optional<int32_t> num_speculative_tokens;
  std::optional<int32_t> branch_top_k;
  bool skip_special_tokens = true;
};

struct TokenizeCommand {
  std::string model;
  std::variant<std::string, ChatRequest> input;
  bool add_special_tokens = true;
};

struct DetokenizeCommand {
  std::string model;
  std::vector<TokenId> token_ids;
  bool skip_special_tokens = false;
};

// Errors:  InvalidField with the field's path, e.g. "sampling.top_p", and its limit
absl::StatusOr<GenerateCommand> Parse(const v1::GenerateRequest& message);
absl::StatusOr<TokenizeCommand> Parse(const v1::TokenizeRequest& message);
absl::StatusOr<DetokenizeCommand> Parse(const v1::DetokenizeRequest& message);

// Errors:  InvalidField(field) for a mode of a later version, which says so, and for an unknown one
absl::StatusOr<SpeculationMode> ParseSpeculationMode(const std::string& text,
                                                     const std::string& field);

const char* FinishReasonName(FinishReason reason);  // "stop", "length", "cancelled", "error"

void Write(const SamplingParameters& sampling, v1::SamplingParams* message);
void Write(const SpeculationStats& stats, SpeculationMode mode, v1::SpeculationStatistics* message);

// Parses bytes that a client sent. protobuf alone only says that it failed; this names the field that is
// not UTF-8, or says that the bytes are no such message, or one of too many entries.
absl::Status ParseMessage(const std::string& bytes, google::protobuf::Message* message);

}  // namespace mirrorsd::wire
