// Writes the first seeds of the targets whose inputs are messages: `make_seeds DIR` fills DIR/wire, DIR/gateway,
// DIR/worker and DIR/core with one valid input for each case of each oneof. By hand, after a change of the schema.

#include <filesystem>
#include <fstream>
#include <string>

#include "common/check.h"
#include "common/error.h"
#include "mirrorsd/v1/inference.pb.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"
#include "tests/unit/services/wire/messages.h"

namespace mirrorsd::fuzz {
namespace {

namespace pb = ::mirrorsd::internal::v1;

class Folder {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {
    std::filesystem::create_directories(path_);
  }
  void Put(const std::string& name, const std::string& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file << bytes;
    CHECK(file.good()) << (path_ / name).string();
  }
  void Put(const std::string& name, char tag, const google::protobuf::Message& message) const {
    Put(name, std::string(1, tag) + message.SerializeAsString());
  }

 private:
  std::filesystem::path path_;
};

void WriteWire(const Folder& folder) {
  int i = 0;
  for (const WorkerReport& report : wire::FullReports()) {
    pb::WorkerMessage message;
    message.set_scheduler_epoch(1);
    message.set_incarnation(2);
    wire::Write(report, message.add_reports());
    folder.Put("report" + std::to_string(i++), 0, message);
  }
  pb::WorkerMessage hello;
  wire::Write(wire::FullHello(), hello.mutable_hello());
  folder.Put("hello", 0, hello);
  i = 0;
  for (const WorkerCommand& command : wire::FullCommands()) {
    pb::SchedulerMessage message;
    message.set_scheduler_epoch(1);
    wire::Write(command, message.add_commands());
    folder.Put("command" + std::to_string(i++), 1, message);
  }
  pb::SchedulerMessage greeting;
  wire::Write(Welcome{1, 2}, greeting.mutable_welcome());
  folder.Put("welcome", 1, greeting);
  wire::Write(Refused{"REASON", "message", true}, greeting.mutable_refused());
  folder.Put("refused", 1, greeting);
  pb::SubmitRequest submit;
  wire::Write(wire::FullSubmit(), &submit);
  folder.Put("submit", 2, submit);
  pb::Committed committed;
  wire::Write(wire::FullCommitted(), &committed);
  folder.Put("committed", 3, committed);
  pb::DescribeCellResponse cell;
  wire::Write(wire::FullCell(), &cell);
  folder.Put("cell", 4, cell);
  folder.Put("status", "\x05" +
             wire::ToGrpcStatus(InvalidField("field", "message", "limit")).error_details());
}

void WriteGateway(const Folder& folder) {
  v1::GenerateRequest request;
  request.set_request_id("mine");
  request.set_model("demo");
  request.set_max_tokens(8);
  request.set_ignore_eos(true);
  request.add_stop("end");
  request.mutable_speculation()->set_mode("serial");
  request.mutable_speculation()->set_num_speculative_tokens(3);
  request.set_skip_special_tokens(false);
  v1::SamplingParams* sampling = request.mutable_sampling();
  sampling->set_temperature(0.5f);
  sampling->set_top_k(-1);
  sampling->set_top_p(0.9f);
  sampling->set_min_p(0.1f);
  sampling->set_repetition_penalty(1.2f);
  sampling->set_presence_penalty(-1);
  sampling->set_frequency_penalty(1);
  sampling->set_min_tokens(2);
  sampling->set_seed(uint64_t{1} << 63);
  sampling->set_sample_index(1);
  (*sampling->mutable_logit_bias())[7] = -100;
  request.set_prompt("one two");
  folder.Put("prompt", 0, request);
  request.mutable_token_ids()->add_ids(5);
  request.mutable_token_ids()->add_ids(639);
  folder.Put("token_ids", 0, request);
  v1::Chat chat;
  v1::ChatMessage* message = chat.add_messages();
  message->set_role("user");
  message->set_content("Hi");
  chat.set_tools_json(R"([{"type": "function", "function": {"name": "f"}}])");
  chat.set_add_generation_prompt(false);
  *request.mutable_chat() = chat;
  folder.Put("chat", 0, request);
  v1::TokenizeRequest tokenize;
  tokenize.set_text("one two");
  tokenize.set_add_special_tokens(false);
  folder.Put("tokenize_text", 2, tokenize);
  *tokenize.mutable_chat() = chat;
  folder.Put("tokenize_chat", 2, tokenize);
  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids(3);
  detokenize.add_token_ids(638);
  detokenize.set_skip_special_tokens(true);
  folder.Put("detokenize", 3, detokenize);
}

// A sequence that a verifier prefills and verifies, and one that a draft rolls out.
void WriteWorker(const Folder& folder) {
  const StartSequence start{.sequence_id = 1, .prompt_length = 4, .total_length = 6};
  const AppendTokens append{1, 0, {1, 2, 3, 4, 5, 6}};
  pb::SchedulerMessage verifier;
  const std::vector<WorkerCommand> to_verifier = {
      start, append,
      StartVerify{1, {{.sequence_id = 1, .committed_length = 6, .is_prefill = true, .end = 6}}},
      StartVerify{2, {{.sequence_id = 1, .committed_length = 7, .window = {1, 2, 3}}}},
      Drain{}, EndSequence{1}};
  for (const WorkerCommand& command : to_verifier) wire::Write(command, verifier.add_commands());
  folder.Put("verifier", 0, verifier);
  folder.Put("verifier_seldom", 2, verifier);
  pb::SchedulerMessage draft;
  const std::vector<WorkerCommand> to_draft = {
      start, append,
      StartRollout{.sequence_id = 1, .round_id = 1, .committed_length = 6, .path_offset = 6,
                   .roots = {{.num_accepted = 0, .token = 7}}, .depth = 4},
      StartRollout{.sequence_id = 1, .round_id = 2, .committed_length = 7, .path_offset = 6,
                   .path_tokens = {7}, .window = {8, 9},
                   .roots = {{.num_accepted = 2, .token = 3}, {.num_accepted = 0, .own_rank = 1}},
                   .depth = 2},
      EndSequence{1}};
  for (const WorkerCommand& command : to_draft) wire::Write(command, draft.add_commands());
  folder.Put("draft", 1, draft);
  folder.Put("draft_seldom", 3, draft);
  // Mirror rounds: own ranks, candidates, a promotion with an unused tail, another path.
  pb::SchedulerMessage mirror;
  const StartRollout round{.sequence_id = 1, .round_id = 1, .committed_length = 6, .path_offset = 6,
                           .window = {8, 9}, .depth = 3};
  std::vector<StartRollout> rounds(4, round);
  rounds[0].roots = {{.num_accepted = 2, .own_rank = 0}, {.num_accepted = 0, .own_rank = 1}};
  rounds[1].roots = {{.num_accepted = 1, .token = 4}, {.num_accepted = 2, .token = 5}};
  for (size_t i : {2, 3}) rounds[i].round_id = static_cast<RoundId>(i);
  rounds[2].committed_length = 8;
  rounds[2].path_tokens = {8, 4};
  rounds[2].window = {};
  rounds[2].roots = {{.num_accepted = 0, .own_rank = 0}, {.num_accepted = 0, .own_rank = 7}};
  rounds[3].committed_length = 9;
  rounds[3].path_tokens = {8, 4, 11};
  rounds[3].window = {1, 2, 3};
  rounds[3].roots = {{.num_accepted = 3, .own_rank = 0}};
  const std::vector<WorkerCommand> to_mirror = {start,     append,    rounds[0], rounds[1],
                                                rounds[2], rounds[3], rounds[3], EndSequence{1}};
  for (const WorkerCommand& command : to_mirror) wire::Write(command, mirror.add_commands());
  folder.Put("mirror", 1, mirror);
  folder.Put("mirror_seldom", 3, mirror);
}

std::string Step(uint8_t op, uint8_t argument, const google::protobuf::Message* message) {
  const std::string bytes = message != nullptr ? message->SerializeAsString() : "";
  std::string step = {static_cast<char>(op), static_cast<char>(argument),
                      static_cast<char>(bytes.size() & 255), static_cast<char>(bytes.size() >> 8)};
  return step + bytes;
}

// core_fuzz.cc has the numbers of its steps.
void WriteCore(const Folder& folder) {
  pb::WorkerMessage verifier, draft;
  Hello hello = wire::FullHello();
  hello.vocabulary_fingerprint = "words";
  hello.blocks = {.total = 64, .free = 64};
  hello.context_length = 256;
  wire::Write(hello, draft.mutable_hello());
  hello.role = WorkerRole::kVerifier;
  hello.name = "v";
  wire::Write(hello, verifier.mutable_hello());
  pb::SubmitRequest submit;
  SubmitRequest request = wire::FullSubmit();
  request.vocabulary_fingerprint = "words";
  request.num_speculative_tokens = 4;
  request.end_token_ids = {};
  request.deadline = absl::Seconds(30);
  wire::Write(request, &submit);
  std::string life = Step(1, 0, &verifier) + Step(1, 0, &draft) + Step(0, 0, &submit);
  submit.set_request_id("s");
  life += Step(0, 0, &submit);
  for (int i = 0; i < 24; ++i) life += Step(3, static_cast<uint8_t>(i % 2), nullptr);
  folder.Put("honest", life);
  std::string lies = life.substr(0, life.size() - 4 * 12);
  int i = 0;
  for (const WorkerReport& report : wire::FullReports()) {
    pb::WorkerMessage message;
    message.set_scheduler_epoch(1);
    wire::Write(report, message.add_reports());
    folder.Put("report" + std::to_string(i), lies + Step(2, static_cast<uint8_t>(i % 2), &message));
    ++i;
  }
  folder.Put("lost", lies + Step(6, 0, nullptr) + Step(1, 0, &verifier) + Step(3, 2, nullptr) +
                         Step(3, 2, nullptr) + Step(3, 2, nullptr) + Step(7, 1, nullptr));
  folder.Put("late", lies + Step(5, 40, nullptr) + Step(5, 200, nullptr) + Step(4, 0, nullptr));
  folder.Put("drained", lies + Step(9, 255, nullptr) + Step(8, 1, nullptr) + Step(4, 1, nullptr));
}

}  // namespace
}  // namespace mirrorsd::fuzz

int main(int argc, char** argv) {
  using mirrorsd::fuzz::Folder;
  if (argc != 2) return 2;
  const std::filesystem::path out = argv[1];
  mirrorsd::fuzz::WriteWire(Folder(out / "wire"));
  mirrorsd::fuzz::WriteGateway(Folder(out / "gateway"));
  mirrorsd::fuzz::WriteWorker(Folder(out / "worker"));
  mirrorsd::fuzz::WriteCore(Folder(out / "core"));
  return 0;
}
