#include "services/wire/sequence_wire.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "services/wire/limits.h"

namespace mirrorsd::wire {

void Parse(const internal::v1::SamplingParameters& message, const Field& field, Checks* checks,
           SamplingParameters* sampling) {
  checks->FloatInRange(Field(field, "temperature"), message.temperature(), 0, 100);
  checks->NotNegative(Field(field, "top_k"), message.top_k());
  checks->FloatInRange(Field(field, "top_p"), message.top_p(), 0, 1, /*above_low=*/true);
  checks->FloatInRange(Field(field, "min_p"), message.min_p(), 0, 1);
  checks->FloatInRange(Field(field, "repetition_penalty"), message.repetition_penalty(), 0, 100,
                       /*above_low=*/true);
  checks->FloatInRange(Field(field, "presence_penalty"), message.presence_penalty(), -2, 2);
  checks->FloatInRange(Field(field, "frequency_penalty"), message.frequency_penalty(), -2, 2);
  checks->InRange(Field(field, "min_tokens"), message.min_tokens(), 0, kMaxContextTokens);
  checks->Count(Field(field, "logit_bias"), message.logit_bias_size(), 0, kMaxLogitBias);
  if (!checks->ok()) return;

  int64_t previous = -1;
  sampling->logit_bias.clear();
  for (int i = 0; i < message.logit_bias_size(); ++i) {
    const auto& entry = message.logit_bias(i);
    const Field entry_field(field, "logit_bias", i);
    checks->InRange(Field(entry_field, "token"), entry.token(), previous + 1,
                    std::numeric_limits<int32_t>::max());
    checks->FloatInRange(Field(entry_field, "bias"), entry.bias(), -100, 100);
    previous = entry.token();
    sampling->logit_bias.emplace_back(entry.token(), entry.bias());
  }
  sampling->temperature = message.temperature();
  sampling->top_k = message.top_k();
  sampling->top_p = message.top_p();
  sampling->min_p = message.min_p();
  sampling->repetition_penalty = message.repetition_penalty();
  sampling->presence_penalty = message.presence_penalty();
  sampling->frequency_penalty = message.frequency_penalty();
  sampling->min_tokens = message.min_tokens();
  sampling->seed = message.seed();
  sampling->sample_index = message.sample_index();
}

void Write(const SamplingParameters& sampling, internal::v1::SamplingParameters* message) {
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
    auto* entry = message->add_logit_bias();
    entry->set_token(token);
    entry->set_bias(bias);
  }
}

void CheckLogprobs(const google::protobuf::RepeatedPtrField<internal::v1::TokenLogprobs>& logprobs,
                   const Field& field, int max_tokens, Checks* checks) {
  checks->Count(field, logprobs.size(), 0, max_tokens);
  if (!checks->ok()) return;
  for (int i = 0; i < logprobs.size(); ++i) {
    const Field entry(field, "", i);
    const auto& top = logprobs[i].top();
    checks->Require(!std::isnan(logprobs[i].logprob()), Field(entry, "logprob"), "is not a number");
    checks->Count(Field(entry, "top"), top.size(), 0, kMaxLogprobs);
    for (int k = 0; k < top.size() && checks->ok(); ++k) {
      const Field top_field(entry, "top", k);
      checks->NotNegative(Field(top_field, "token"), top[k].token());
      checks->Require(!std::isnan(top[k].logprob()), Field(top_field, "logprob"),
                      "is not a number");
    }
  }
}

void Parse(const internal::v1::StartSequence& message, const Field& field, Checks* checks,
           StartSequence* start) {
  checks->Require(message.has_sampling(), Field(field, "sampling"), "is missing");
  Parse(message.sampling(), Field(field, "sampling"), checks, &start->sampling);
  checks->TokenIds(Field(field, "end_token_ids"), message.end_token_ids(), 0, kMaxEndTokens);
  checks->InRange(Field(field, "prompt_length"), message.prompt_length(), 1, kMaxContextTokens);
  checks->InRange(Field(field, "total_length"), message.total_length(), message.prompt_length(),
                  kMaxContextTokens);
  if (!checks->ok()) return;
  start->sequence_id = message.sequence_id();
  start->end_token_ids.assign(message.end_token_ids().begin(), message.end_token_ids().end());
  start->prompt_length = message.prompt_length();
  start->total_length = message.total_length();
}

void Parse(const internal::v1::AppendTokens& message, const Field& field, Checks* checks,
           AppendTokens* append) {
  checks->InRange(Field(field, "offset"), message.offset(), 0, kMaxContextTokens);
  checks->TokenIds(Field(field, "token_ids"), message.token_ids(), 1, kMaxTokensPerAppend);
  if (!checks->ok()) return;
  append->sequence_id = message.sequence_id();
  append->offset = message.offset();
  append->token_ids.assign(message.token_ids().begin(), message.token_ids().end());
}

void Parse(const internal::v1::EndSequence& message, const Field& field, Checks* checks,
           EndSequence* end) {
  end->sequence_id = message.sequence_id();
}

void Parse(const internal::v1::KvBlocks& message, const Field& field, Checks* checks,
           KvBlocks* blocks) {
  checks->InRange(Field(field, "total"), message.total(), 0, kMaxKvBlocks);
  checks->InRange(Field(field, "free"), message.free(), 0, message.total());
  if (!checks->ok()) return;  // the difference could overflow
  checks->InRange(Field(field, "evictable"), message.evictable(), 0,
                  message.total() - message.free());
  *blocks = {.total = message.total(), .free = message.free(), .evictable = message.evictable()};
}

void Parse(const internal::v1::WorkerError& message, const Field& field, Checks* checks,
           WorkerError* error) {
  checks->Bytes(Field(field, "reason"), message.reason(), 1, kMaxReasonBytes);
  checks->Bytes(Field(field, "message"), message.message(), 0, kMaxMessageTextBytes);
  *error = {message.reason(), message.message()};
}

void Write(const StartSequence& start, internal::v1::StartSequence* message) {
  message->set_sequence_id(start.sequence_id);
  Write(start.sampling, message->mutable_sampling());
  message->mutable_end_token_ids()->Assign(start.end_token_ids.begin(), start.end_token_ids.end());
  message->set_prompt_length(start.prompt_length);
  message->set_total_length(start.total_length);
}

void Write(const AppendTokens& append, internal::v1::AppendTokens* message) {
  message->set_sequence_id(append.sequence_id);
  message->set_offset(append.offset);
  message->mutable_token_ids()->Assign(append.token_ids.begin(), append.token_ids.end());
}

void Write(const EndSequence& end, internal::v1::EndSequence* message) {
  message->set_sequence_id(end.sequence_id);
}

void Write(const KvBlocks& blocks, internal::v1::KvBlocks* message) {
  message->set_total(blocks.total);
  message->set_free(blocks.free);
  message->set_evictable(blocks.evictable);
}

void Write(const WorkerError& error, internal::v1::WorkerError* message) {
  message->set_reason(WireText(error.reason, kMaxReasonBytes));
  message->set_message(WireText(error.message, kMaxMessageTextBytes));
}

}  // namespace mirrorsd::wire
