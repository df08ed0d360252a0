#include "services/wire/inference_wire.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/speculation_policy.h"

namespace mirrorsd::wire {
namespace {

v1::GenerateRequest Good() {
  v1::GenerateRequest request;
  request.set_prompt("hello");
  return request;
}

// The field that is named when `spoil` has been done to a good request; "" if it is still good.
std::string FieldOf(const std::function<void(v1::GenerateRequest*)>& spoil) {
  v1::GenerateRequest request = Good();
  spoil(&request);
  const auto command = Parse(request);
  if (command.ok()) return "";
  EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument);
  const auto info = GetErrorInfo(command.status());
  EXPECT_TRUE(info.has_value() && !info->limit.empty()) << command.status();
  return info.has_value() ? info->field : "none";
}

using Request = v1::GenerateRequest*;

TEST(InferenceWireTest, GoodRequestsPass) {
  EXPECT_EQ(FieldOf([](Request) {}), "");
  EXPECT_EQ(FieldOf([](Request r) { r->mutable_token_ids()->add_ids(0); }), "");
  EXPECT_EQ(FieldOf([](Request r) { r->set_request_id(std::string(128, 'x')); }), "");
  EXPECT_EQ(FieldOf([](Request r) { r->mutable_speculation()->set_mode("off"); }), "");
}

TEST(InferenceWireTest, EveryNumberIsJudgedByItsOwnLimits) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  using Set = void (v1::SamplingParams::*)(float);
  const struct {
    const char* name;
    Set set;
    std::vector<float> good;
    std::vector<float> bad;
  } fields[] = {
      {"temperature", &v1::SamplingParams::set_temperature, {0, 1, 100}, {-0.1f, 100.5f}},
      {"top_p", &v1::SamplingParams::set_top_p, {0.001f, 1}, {0, -1, 1.001f}},
      {"min_p", &v1::SamplingParams::set_min_p, {0, 1}, {-0.1f, 1.1f}},
      {"repetition_penalty", &v1::SamplingParams::set_repetition_penalty, {0.1f, 100}, {0, -1, 101}},
      {"presence_penalty", &v1::SamplingParams::set_presence_penalty, {-2, 2}, {-2.1f, 2.1f}},
      {"frequency_penalty", &v1::SamplingParams::set_frequency_penalty, {-2, 2}, {-2.1f, 2.1f}},
  };
  for (const auto& field : fields) {
    for (const float value : field.good) {
      EXPECT_EQ(FieldOf([&](Request r) { (r->mutable_sampling()->*field.set)(value); }), "")
          << field.name << " " << value;
    }
    std::vector<float> bad = field.bad;
    bad.insert(bad.end(), {nan, inf, -inf});
    for (const float value : bad) {
      EXPECT_EQ(FieldOf([&](Request r) { (r->mutable_sampling()->*field.set)(value); }),
                std::string("sampling.") + field.name)
          << value;
    }
  }
}

TEST(InferenceWireTest, EverythingElseThatIsWrongIsNamed) {
  const struct {
    std::string field;
    std::function<void(Request)> spoil;
  } cases[] = {
      {"prompt", [](Request r) { r->set_prompt(""); }},
      {"prompt", [](Request r) { r->clear_prompt(); }},
      {"token_ids", [](Request r) { r->mutable_token_ids(); }},
      {"token_ids[1]",
       [](Request r) {
         r->mutable_token_ids()->add_ids(3);
         r->mutable_token_ids()->add_ids(-1);
       }},
      {"chat.messages", [](Request r) { r->mutable_chat(); }},
      {"chat.messages[0].role", [](Request r) { r->mutable_chat()->add_messages(); }},
      {"request_id", [](Request r) { r->set_request_id(std::string(129, 'x')); }},
      {"max_tokens", [](Request r) { r->set_max_tokens(0); }},
      {"max_tokens", [](Request r) { r->set_max_tokens(-7); }},
      {"sampling.min_tokens", [](Request r) { r->mutable_sampling()->set_min_tokens(-1); }},
      {"sampling.min_tokens",
       [](Request r) {
         r->set_max_tokens(3);
         r->mutable_sampling()->set_min_tokens(4);
       }},
      {"sampling.top_k", [](Request r) { r->mutable_sampling()->set_top_k(-2); }},
      {"sampling.logit_bias[5]",
       [](Request r) { (*r->mutable_sampling()->mutable_logit_bias())[5] = std::nanf(""); }},
      {"sampling.logit_bias",
       [](Request r) { (*r->mutable_sampling()->mutable_logit_bias())[-5] = 1; }},
      {"sampling.logit_bias",
       [](Request r) {
         for (int i = 0; i < 1025; ++i) (*r->mutable_sampling()->mutable_logit_bias())[i] = 1;
       }},
      {"stop", [](Request r) { for (int i = 0; i < 17; ++i) r->add_stop("x"); }},
      {"stop[0]", [](Request r) { r->add_stop(""); }},
      {"stop[1]",
       [](Request r) {
         r->add_stop("x");
         r->add_stop(std::string(257, 'x'));
       }},
      {"speculation.num_speculative_tokens",
       [](Request r) { r->mutable_speculation()->set_num_speculative_tokens(65); }},
      {"speculation.branch_top_k", [](Request r) { r->mutable_speculation()->set_branch_top_k(0); }},
      {"speculation.branch_top_k", [](Request r) { r->mutable_speculation()->set_branch_top_k(33); }},
      {"speculation.mode", [](Request r) { r->mutable_speculation()->set_mode("fast"); }},
      {"speculation.mode", [](Request r) { r->mutable_speculation()->set_mode("default"); }},
  };
  for (const auto& each : cases) EXPECT_EQ(FieldOf(each.spoil), each.field);
}

TEST(InferenceWireTest, ModesOfALaterVersionSaySo) {
  const std::string later(kLaterSpeculationModes);
  for (const absl::string_view mode : absl::StrSplit(later, '|')) {
    const auto parsed = ParseSpeculationMode(std::string(mode), "speculation.mode");
    EXPECT_NE(parsed.status().message().find("not in this version yet"), absl::string_view::npos) << mode;
  }
}

TEST(InferenceWireTest, EveryOfferedModeIsTaken) {
  const std::string offered(kOfferedSpeculationModes);
  for (const absl::string_view mode : absl::StrSplit(offered, '|')) {
    const auto parsed = ParseSpeculationMode(std::string(mode), "speculation.mode");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(SpeculationModeName(*parsed), mode);
  }
}

TEST(InferenceWireTest, BiasIsSortedAndTopKMinusOneIsOff) {
  v1::GenerateRequest request = Good();
  (*request.mutable_sampling()->mutable_logit_bias())[9] = 1;
  (*request.mutable_sampling()->mutable_logit_bias())[2] = -1;
  request.mutable_sampling()->set_top_k(-1);
  const auto command = Parse(request);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->sampling.logit_bias,
            (std::vector<std::pair<TokenId, float>>{{2, -1}, {9, 1}}));
  EXPECT_EQ(command->sampling.top_k, 0);
  EXPECT_FALSE(command->sampling.temperature.has_value());
}

// The bytes of a message, made by hand, since protobuf would complain: field 3 (prompt) = "a\xff".
TEST(ParseMessageTest, NamesTheFieldThatIsNotUtf8) {
  v1::GenerateRequest request;
  absl::Status status = ParseMessage("\x1a\x02"
                                     "a\xff",
                                     &request);
  EXPECT_EQ(GetErrorInfo(status)->field, "prompt") << status;
  // chat { messages { role: "u" content: "\xc0" } }
  status = ParseMessage(std::string("\x2a\x08\x0a\x06\x0a\x01u\x12\x01\xc0", 10), &request);
  EXPECT_EQ(GetErrorInfo(status)->field, "chat.messages[0].content") << status;
  status = ParseMessage(std::string("\x4a\x01x\x4a\x01\x80", 6), &request);
  EXPECT_EQ(GetErrorInfo(status)->field, "stop[1]") << status;
}

TEST(ParseMessageTest, SaysThatBytesAreNoMessage) {
  v1::GenerateRequest request;
  const absl::Status status = ParseMessage("\x1a\x7f", &request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("mirrorsd.v1.GenerateRequest"), absl::string_view::npos);
  EXPECT_TRUE(ParseMessage("", &request).ok());
}

// Two bytes on the wire, a hundred in memory: counted before the message is built.
TEST(ParseMessageTest, TooManyEntriesAreRefused) {
  const auto bomb = [](const std::string& entry, int count) {
    std::string bytes;
    for (int i = 0; i < count; ++i) bytes += entry;
    return bytes;
  };
  const std::string stop("\x4a\0", 2), message("\x0a\0", 2), unknown("\xf8\x07\x01", 3);
  const std::string messages = bomb(message, 70'000);  // 140,000 bytes: \xe0\xc5\x08
  for (const std::string& bytes :
       {bomb(stop, 70'000), "\x2a\xe0\xc5\x08" + messages, bomb(unknown, 70'000)}) {
    v1::GenerateRequest request;
    const absl::Status status = ParseMessage(bytes, &request);
    EXPECT_EQ(GetErrorInfo(status)->field, "message") << status;
    EXPECT_EQ(GetErrorInfo(status)->limit, "65536");
  }
  // Long is not many.
  v1::GenerateRequest request;
  request.set_prompt(std::string(1 << 20, 'a'));
  EXPECT_TRUE(ParseMessage(request.SerializeAsString(), &request).ok());
  for (int i = 0; i < 300'000; ++i) request.mutable_token_ids()->add_ids(i);
  EXPECT_TRUE(ParseMessage(request.SerializeAsString(), &request).ok());
  EXPECT_EQ(request.token_ids().ids_size(), 300'000);
}

TEST(InferenceWireTest, DetokenizeIsBounded) {
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Resize(kMaxDetokenizeTokens, 7);
  EXPECT_EQ(Parse(request)->token_ids.size(), size_t{kMaxDetokenizeTokens});
  request.add_token_ids(7);
  EXPECT_EQ(GetErrorInfo(Parse(request).status())->field, "token_ids");
  request.mutable_token_ids()->Resize(1, 7);
  request.set_token_ids(0, -1);
  EXPECT_EQ(GetErrorInfo(Parse(request).status())->field, "token_ids[0]");
}

TEST(InferenceWireTest, AcceptanceLengthIsOnePlusAcceptedOverRounds) {
  v1::SpeculationStatistics message;
  Write(SpeculationStats{.rounds = 4, .drafted_tokens = 16, .accepted_tokens = 10},
        SpeculationMode::kSerial, &message);
  EXPECT_EQ(message.mean_acceptance_length(), 3.5);
  EXPECT_EQ(message.mode(), "serial");
  Write(SpeculationStats{}, SpeculationMode::kOff, &message);
  EXPECT_EQ(message.mean_acceptance_length(), 1.0);
}

TEST(InferenceWireTest, BranchesAreToldWithTheirMeanDepth) {
  v1::SpeculationStatistics message;
  Write(SpeculationStats{.rounds = 9,
                         .empty_window_rounds = 2,
                         .branch_hits = 4,
                         .branch_hit_depth_sum = 10,
                         .branch_misses = 5,
                         .ngram_window_rounds = 1,
                         .held_rounds = 3},
        SpeculationMode::kMirror, &message);
  EXPECT_EQ(message.mode(), "mirror");
  EXPECT_EQ(message.branch_hits(), 4);
  EXPECT_EQ(message.branch_misses(), 5);
  EXPECT_EQ(message.branch_hit_depth(), 2.5);
  EXPECT_EQ(message.fallbacks().empty(), 2);
  EXPECT_EQ(message.fallbacks().ngram(), 1);
  EXPECT_EQ(message.fallbacks().held(), 3);
  Write(SpeculationStats{}, SpeculationMode::kMirror, &message);
  EXPECT_EQ(message.branch_hit_depth(), 0);
}

}  // namespace
}  // namespace mirrorsd::wire
