// Bytes as a request of the public API, all the way to what the scheduler would be sent: parsed, validated,
// rendered, encoded, planned. The first byte chooses the method. What is refused names its field; what is
// planned is within the cell's limits and is taken by the scheduler's own parser.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "common/check.h"
#include "common/error.h"
#include "mirrorsd/internal/v1/scheduling.pb.h"
#include "services/gateway/model_text.h"
#include "services/gateway/request_plan.h"
#include "services/wire/inference_wire.h"
#include "services/wire/limits.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"
#include "tests/fuzz/proto_mutator.h"

namespace mirrorsd::gateway {
namespace {

constexpr int32_t kContext = 4096;
constexpr int32_t kVocabulary = 640;

const ModelText& Model() {
  static const ModelText* const model = [] {
    auto loaded = LoadModelText("tests/golden/qwen3-qknorm-bf16", "demo");
    CHECK(loaded.ok()) << loaded.status();
    return new ModelText(*std::move(loaded));
  }();
  return *model;
}

const CellDescription& Cell() {
  static const CellDescription* const cell = [] {
    auto* made = new CellDescription;
    made->ready = true;
    made->vocabulary_fingerprint = Model().tokenizer->VocabularyFingerprint();
    made->context_length = kContext;
    made->vocabulary_size = kVocabulary;
    made->default_speculation = SpeculationMode::kSerial;
    return made;
  }();
  return *cell;
}

void CheckRefusal(const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  CHECK(info.has_value() && !info->reason.empty() && !info->field.empty()) << status;
  CHECK(!info->retryable);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument ||
        status.code() == absl::StatusCode::kNotFound)
      << status;
  // It fits trailing metadata, whatever the client sent.
  CHECK_LT(wire::ToGrpcStatus(status).error_details().size(), size_t{6000});
}

void CheckCommand(const wire::GenerateCommand& command) {
  CHECK_LE(command.request_id.size(), kMaxRequestIdBytes);
  CHECK_LE(command.stop.size(), size_t{wire::kMaxPublicStops});
  const wire::SamplingOverrides& sampling = command.sampling;
  CHECK(sampling.temperature.value_or(0) >= 0 && sampling.temperature.value_or(0) <= 100);
  CHECK(sampling.top_k.value_or(0) >= 0 && sampling.top_p.value_or(1) > 0);
  CHECK(command.max_tokens.value_or(1) >= 1);
  CHECK(std::is_sorted(sampling.logit_bias.begin(), sampling.logit_bias.end()));
}

void Generate(const std::string& bytes) {
  v1::GenerateRequest message;
  if (absl::Status status = wire::ParseMessage(bytes, &message); !status.ok()) {
    return CheckRefusal(status);
  }
  const auto command = wire::Parse(message);
  if (!command.ok()) return CheckRefusal(command.status());
  CheckCommand(*command);
  uint64_t words = 7;
  const auto plan = PlanRequest(*command, Model(), Cell(), [&words] { return words *= 0x9E3779B9; });
  if (!plan.ok()) return CheckRefusal(plan.status());

  const SubmitRequest& submit = plan->submit;
  CHECK_LE(submit.token_ids.size() + submit.max_tokens, size_t{kContext});
  for (const TokenId id : submit.token_ids) CHECK(id >= 0 && id < kVocabulary);
  CHECK(!command->ignore_eos || submit.end_token_ids.empty());
  CHECK_LE(submit.sampling.min_tokens, submit.max_tokens);
  internal::v1::SubmitRequest sent;
  wire::Write(submit, &sent);
  std::string wire_bytes;
  CHECK(sent.SerializeToString(&wire_bytes) && sent.ParseFromString(wire_bytes));
  const auto taken = wire::Parse(sent);
  CHECK(taken.ok()) << taken.status();
  CHECK(taken->token_ids == submit.token_ids && taken->request_id == submit.request_id);
}

void Tokenize(const std::string& bytes) {
  v1::TokenizeRequest message;
  if (absl::Status status = wire::ParseMessage(bytes, &message); !status.ok()) {
    return CheckRefusal(status);
  }
  const auto command = wire::Parse(message);
  if (!command.ok()) return CheckRefusal(command.status());
  absl::StatusOr<std::vector<TokenId>> ids;
  if (const auto* text = std::get_if<std::string>(&command->input)) {
    ids = Model().tokenizer->Encode(*text, command->add_special_tokens, "text");
  } else {
    const auto& chat = std::get<wire::ChatRequest>(command->input);
    std::vector<text::ChatMessage> messages;
    for (const auto& [role, content] : chat.messages) messages.push_back({role, content});
    ids = EncodeChat(Model(), messages, chat.tools_json, chat.add_generation_prompt);
  }
  if (!ids.ok()) return CheckRefusal(ids.status());
  for (const TokenId id : *ids) CHECK(id >= 0 && id < Model().tokenizer->vocabulary_size());
}

void Detokenize(const std::string& bytes) {
  v1::DetokenizeRequest message;
  if (absl::Status status = wire::ParseMessage(bytes, &message); !status.ok()) {
    return CheckRefusal(status);
  }
  const auto command = wire::Parse(message);
  if (!command.ok()) return CheckRefusal(command.status());
  CHECK_LE(command->token_ids.size(), size_t{wire::kMaxDetokenizeTokens});
  const auto text = Model().tokenizer->Decode(command->token_ids, command->skip_special_tokens);
  CHECK(text.ok()) << text.status();
}

std::unique_ptr<google::protobuf::Message> MakeMessage(uint8_t tag) {
  switch (tag % 4) {
    case 0:
    case 1: return std::make_unique<v1::GenerateRequest>();
    case 2: return std::make_unique<v1::TokenizeRequest>();
    default: return std::make_unique<v1::DetokenizeRequest>();
  }
}

}  // namespace
}  // namespace mirrorsd::gateway

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  return mirrorsd::fuzz::MutateTagged(data, size, max_size, seed, mirrorsd::gateway::MakeMessage);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::gateway;  // NOLINT
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
    case 1: Generate(bytes); break;
    case 2: Tokenize(bytes); break;
    default: Detokenize(bytes);
  }
  return 0;
}
