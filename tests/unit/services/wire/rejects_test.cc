// Every way in which an internal message can be wrong, one at a time: each is refused with the path of the
// field, and the message that was spoiled is a good one before.

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/limits.h"
#include "services/wire/scheduling_wire.h"
#include "tests/unit/services/wire/messages.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename Message>
struct Spoilt {
  std::string field;
  std::function<void(Message*)> spoil;
};

template <typename Message>
void ExpectAllRefused(const Message& good, const std::vector<Spoilt<Message>>& cases) {
  ASSERT_TRUE(Parse(good).ok()) << Parse(good).status();
  for (const auto& [field, spoil] : cases) {
    Message message = good;
    spoil(&message);
    const auto parsed = Parse(message);
    ASSERT_FALSE(parsed.ok()) << field << " was taken";
    const auto info = GetErrorInfo(parsed.status());
    ASSERT_TRUE(info.has_value()) << parsed.status();
    EXPECT_EQ(info->reason, "INVALID_FIELD");
    EXPECT_EQ(info->field, field) << parsed.status();
    EXPECT_FALSE(info->retryable);
  }
}

pb::SchedulerMessage GoodCommands() {
  pb::SchedulerMessage message;
  for (const WorkerCommand& command : FullCommands()) Write(command, message.add_commands());
  return message;
}

pb::WorkerMessage GoodReports() {
  pb::WorkerMessage message;
  for (const WorkerReport& report : FullReports()) Write(report, message.add_reports());
  return message;
}

template <typename Ids>
void FillIds(Ids* ids, int count) {
  ids->Clear();
  for (int i = 0; i < count; ++i) ids->Add(1);
}

TEST(RejectsTest, SequenceCommands) {
  using M = pb::SchedulerMessage;
  const auto start = [](M* m) { return m->mutable_commands(0)->mutable_start_sequence(); };
  const auto append = [](M* m) { return m->mutable_commands(1)->mutable_append_tokens(); };
  const std::string s = "commands[0].start_sequence.", a = "commands[1].append_tokens.";
  ExpectAllRefused<M>(
      GoodCommands(),
      {{s + "sampling", [&](M* m) { start(m)->clear_sampling(); }},
       {s + "end_token_ids", [&](M* m) { FillIds(start(m)->mutable_end_token_ids(), 257); }},
       {s + "end_token_ids[1]", [&](M* m) { start(m)->set_end_token_ids(1, -1); }},
       {s + "prompt_length", [&](M* m) { start(m)->set_prompt_length(0); }},
       {s + "total_length", [&](M* m) { start(m)->set_total_length(3); }},
       {s + "total_length", [&](M* m) { start(m)->set_total_length(kMaxContextTokens + 1); }},
       {a + "offset", [&](M* m) { append(m)->set_offset(-1); }},
       {a + "token_ids", [&](M* m) { append(m)->clear_token_ids(); }},
       {a + "token_ids", [&](M* m) { FillIds(append(m)->mutable_token_ids(), 4097); }},
       {a + "token_ids[0]", [&](M* m) { append(m)->set_token_ids(0, -7); }},
       {"commands[5].payload", [&](M* m) { m->mutable_commands(5)->clear_payload(); }},
       {"commands", [&](M* m) { m->mutable_welcome(); }}});
}

TEST(RejectsTest, Sampling) {
  using M = pb::SchedulerMessage;
  const auto sampling = [](M* m) {
    return m->mutable_commands(0)->mutable_start_sequence()->mutable_sampling();
  };
  const std::string p = "commands[0].start_sequence.sampling.";
  std::vector<Spoilt<M>> cases;
  for (float bad : {-0.1f, 100.5f, kNan, kInf}) {
    cases.push_back({p + "temperature", [=](M* m) { sampling(m)->set_temperature(bad); }});
  }
  for (float bad : {0.0f, -1.0f, 1.01f, kNan}) {
    cases.push_back({p + "top_p", [=](M* m) { sampling(m)->set_top_p(bad); }});
  }
  for (float bad : {-0.1f, 1.1f, kNan}) {
    cases.push_back({p + "min_p", [=](M* m) { sampling(m)->set_min_p(bad); }});
  }
  for (float bad : {0.0f, 101.0f, kNan, kInf}) {
    cases.push_back(
        {p + "repetition_penalty", [=](M* m) { sampling(m)->set_repetition_penalty(bad); }});
  }
  for (float bad : {-2.1f, 2.1f, kNan}) {
    cases.push_back(
        {p + "presence_penalty", [=](M* m) { sampling(m)->set_presence_penalty(bad); }});
    cases.push_back(
        {p + "frequency_penalty", [=](M* m) { sampling(m)->set_frequency_penalty(bad); }});
  }
  cases.push_back({p + "top_k", [=](M* m) { sampling(m)->set_top_k(-1); }});
  cases.push_back({p + "min_tokens", [=](M* m) { sampling(m)->set_min_tokens(-1); }});
  const auto bias = [=](M* m, int i) { return sampling(m)->mutable_logit_bias(i); };
  cases.push_back({p + "logit_bias[0].token", [=](M* m) { bias(m, 0)->set_token(-1); }});
  cases.push_back({p + "logit_bias[1].token", [=](M* m) { bias(m, 1)->set_token(0); }});
  cases.push_back({p + "logit_bias[1].bias", [=](M* m) { bias(m, 1)->set_bias(kNan); }});
  cases.push_back({p + "logit_bias[1].bias", [=](M* m) { bias(m, 1)->set_bias(100.5f); }});
  cases.push_back({p + "logit_bias", [=](M* m) {
                     for (int i = 0; i < 1024; ++i) sampling(m)->add_logit_bias()->set_token(i + 8);
                   }});
  ExpectAllRefused<M>(GoodCommands(), cases);
}

TEST(RejectsTest, StartVerify) {
  using M = pb::SchedulerMessage;
  const auto verify = [](M* m) { return m->mutable_commands(2)->mutable_start_verify(); };
  const auto item = [=](M* m, int i) { return verify(m)->mutable_items(i); };
  const std::string p = "commands[2].start_verify.";
  ExpectAllRefused<M>(
      GoodCommands(),
      {{p + "items", [=](M* m) { verify(m)->clear_items(); }},
       {p + "items",
        [=](M* m) {
          while (verify(m)->items_size() <= kMaxRoundItems) *verify(m)->add_items() = *item(m, 1);
        }},
       {p + "items[0].rows", [=](M* m) { item(m, 0)->clear_rows(); }},
       {p + "items[0].committed_length", [=](M* m) { item(m, 0)->set_committed_length(0); }},
       {p + "items[0].prefill.begin", [=](M* m) { item(m, 0)->mutable_prefill()->set_begin(-1); }},
       {p + "items[0].prefill.begin", [=](M* m) { item(m, 0)->mutable_prefill()->set_begin(6); }},
       {p + "items[0].prefill.end", [=](M* m) { item(m, 0)->mutable_prefill()->set_end(2); }},
       {p + "items[0].prefill.end", [=](M* m) { item(m, 0)->mutable_prefill()->set_end(7); }},
       {p + "items[1].window.token_ids",
        [=](M* m) { FillIds(item(m, 1)->mutable_window()->mutable_token_ids(), 65); }},
       {p + "items[1].window.token_ids[2]",
        [=](M* m) { item(m, 1)->mutable_window()->set_token_ids(2, -2); }}});
}

TEST(RejectsTest, StartRollout) {
  using M = pb::SchedulerMessage;
  const auto rollout = [](M* m) { return m->mutable_commands(3)->mutable_start_rollout(); };
  const std::string p = "commands[3].start_rollout.";
  ExpectAllRefused<M>(
      GoodCommands(),
      {{p + "committed_length", [=](M* m) { rollout(m)->set_committed_length(0); }},
       {p + "path_offset", [=](M* m) { rollout(m)->set_path_offset(7); }},
       {p + "path_offset", [=](M* m) { rollout(m)->set_path_offset(-1); }},
       {p + "path_tokens", [=](M* m) { rollout(m)->set_path_offset(5); }},
       {p + "path_tokens[1]", [=](M* m) { rollout(m)->set_path_tokens(1, -1); }},
       {p + "window", [=](M* m) { FillIds(rollout(m)->mutable_window(), 65); }},
       {p + "window[0]", [=](M* m) { rollout(m)->set_window(0, -1); }},
       {p + "depth", [=](M* m) { rollout(m)->set_depth(0); }},
       {p + "depth", [=](M* m) { rollout(m)->set_depth(65); }},
       {p + "exit_sent_at_ns", [=](M* m) { rollout(m)->set_exit_sent_at_ns(-1); }},
       {p + "roots", [=](M* m) { rollout(m)->clear_roots(); }},
       {p + "roots[0].num_accepted",
        [=](M* m) { rollout(m)->mutable_roots(0)->set_num_accepted(3); }},
       {p + "roots[0].token", [=](M* m) { rollout(m)->mutable_roots(0)->set_token(-1); }},
       {p + "roots[1].own_rank", [=](M* m) { rollout(m)->mutable_roots(1)->set_own_rank(1024); }},
       {p + "roots[1].root", [=](M* m) { rollout(m)->mutable_roots(1)->clear_root(); }}});
}

TEST(RejectsTest, VerifierReports) {
  using M = pb::WorkerMessage;
  const auto exit = [](M* m) { return m->mutable_reports(2)->mutable_early_exit_reported(); };
  const auto row = [=](M* m, int r) { return exit(m)->mutable_items(0)->mutable_rows(r); };
  const auto done = [](M* m) { return m->mutable_reports(3)->mutable_verify_done(); };
  const auto item = [=](M* m, int i) { return done(m)->mutable_items(i); };
  const std::string e = "reports[2].early_exit_reported.", d = "reports[3].verify_done.";
  ExpectAllRefused<M>(
      GoodReports(),
      {{e + "sent_at_ns", [=](M* m) { exit(m)->set_sent_at_ns(-1); }},
       {e + "items", [=](M* m) { exit(m)->clear_items(); }},
       {e + "items[0].rows", [=](M* m) { exit(m)->mutable_items(0)->clear_rows(); }},
       {e + "items[0].rows[0].drafted_score", [=](M* m) { row(m, 0)->clear_drafted_score(); }},
       {e + "items[0].rows[1].drafted_score", [=](M* m) { row(m, 1)->set_drafted_score(1); }},
       {e + "items[0].rows[0].drafted_score", [=](M* m) { row(m, 0)->set_drafted_score(kNan); }},
       {e + "items[0].rows[0].candidates[1].score",
        [=](M* m) { row(m, 0)->mutable_candidates(1)->set_score(-kInf); }},
       {e + "items[0].rows[0].candidates[0].token",
        [=](M* m) { row(m, 0)->mutable_candidates(0)->set_token(-1); }},
       {e + "items[0].rows[0].candidates",
        [=](M* m) { while (row(m, 0)->candidates_size() < 65) row(m, 0)->add_candidates(); }},
       {e + "times.suffix_ns", [=](M* m) { exit(m)->mutable_times()->set_suffix_ns(-1); }},
       {d + "sent_at_ns", [=](M* m) { done(m)->set_sent_at_ns(-1); }},
       {d + "items", [=](M* m) { done(m)->clear_items(); }},
       {d + "items[1].kv_length", [=](M* m) { item(m, 1)->set_kv_length(-1); }},
       {d + "items[1].num_accepted", [=](M* m) { item(m, 1)->set_num_accepted(-1); }},
       {d + "items[1].num_accepted", [=](M* m) { item(m, 1)->set_num_accepted(65); }},
       {d + "items[0].correction_token", [=](M* m) { item(m, 0)->set_correction_token(-1); }},
       {d + "items[2].error", [=](M* m) { item(m, 2)->set_correction_token(1); }},
       {d + "items[2].error.reason", [=](M* m) { item(m, 2)->mutable_error()->clear_reason(); }},
       {d + "items[0].logprobs[0].logprob",
        [=](M* m) { item(m, 0)->add_logprobs()->set_logprob(kNan); }},
       {d + "blocks.free", [=](M* m) { done(m)->mutable_blocks()->set_free(11); }},
       {d + "blocks.evictable", [=](M* m) { done(m)->mutable_blocks()->set_evictable(7); }},
       {d + "blocks.total", [=](M* m) { done(m)->mutable_blocks()->set_total(-1); }}});
}

TEST(RejectsTest, OtherReports) {
  using M = pb::WorkerMessage;
  const auto progress = [](M* m) { return m->mutable_reports(5)->mutable_rollout_progress(); };
  const auto state = [](M* m) { return m->mutable_reports(6)->mutable_sequence_state(); };
  const std::string p = "reports[5].rollout_progress.", s = "reports[6].sequence_state.";
  ExpectAllRefused<M>(
      GoodReports(),
      {{"reports[0].heartbeat.num_rounds_done",
        [](M* m) { m->mutable_reports(0)->mutable_heartbeat()->set_num_rounds_done(-1); }},
       {"reports[1].sequence_started.cached_length",
        [](M* m) { m->mutable_reports(1)->mutable_sequence_started()->set_cached_length(-1); }},
       {"reports[4].sequence_ended.blocks.free",
        [](M* m) {
          m->mutable_reports(4)->mutable_sequence_ended()->mutable_blocks()->set_free(-1);
        }},
       {p + "num_accepted", [=](M* m) { progress(m)->set_num_accepted(65); }},
       {p + "root_token", [=](M* m) { progress(m)->set_root_token(-1); }},
       {p + "first_depth", [=](M* m) { progress(m)->set_first_depth(-1); }},
       {p + "token_ids", [=](M* m) { progress(m)->set_first_depth(63); }},
       {p + "token_ids[1]", [=](M* m) { progress(m)->set_token_ids(1, -1); }},
       {p + "scores", [=](M* m) { progress(m)->add_scores(1); }},
       {p + "scores[0]", [=](M* m) { progress(m)->set_scores(0, kNan); }},
       {p + "started_at_ns", [=](M* m) { progress(m)->set_started_at_ns(-1); }},
       {p + "times.queue_ns", [=](M* m) { progress(m)->mutable_times()->set_queue_ns(-1); }},
       {s + "state",
        [=](M* m) { state(m)->set_state(static_cast<pb::DraftSequenceState>(4)); }},
       {s + "draft_kv_length", [=](M* m) { state(m)->set_draft_kv_length(-1); }},
       {"reports[7].payload", [](M* m) { m->mutable_reports(7)->clear_payload(); }},
       {"reports", [](M* m) { Write(FullHello(), m->mutable_hello()); }}});
}

TEST(RejectsTest, HelloAndRefused) {
  using M = pb::WorkerMessage;
  M good;
  Write(FullHello(), good.mutable_hello());
  const std::string long_name(257, 'x');
  ExpectAllRefused<M>(
      good,
      {{"hello.role", [](M* m) { m->mutable_hello()->clear_role(); }},
       {"hello.role", [](M* m) { m->mutable_hello()->set_role(static_cast<pb::WorkerRole>(3)); }},
       {"hello.name", [=](M* m) { m->mutable_hello()->set_name(long_name); }},
       {"hello.boot_id", [=](M* m) { m->mutable_hello()->set_boot_id(long_name); }},
       {"hello.model_name", [=](M* m) { m->mutable_hello()->set_model_name(long_name); }},
       {"hello.numerics_id", [=](M* m) { m->mutable_hello()->set_numerics_id(long_name); }},
       {"hello.context_length", [](M* m) { m->mutable_hello()->set_context_length(0); }},
       {"hello.vocabulary_size", [](M* m) { m->mutable_hello()->set_vocabulary_size(-1); }},
       {"hello.num_layers", [](M* m) { m->mutable_hello()->set_num_layers(0); }},
       {"hello.kv_block_tokens", [](M* m) { m->mutable_hello()->set_kv_block_tokens(0); }},
       {"hello.limits.max_sequences", [](M* m) { m->mutable_hello()->clear_limits(); }},
       {"hello.limits.max_window",
        [](M* m) { m->mutable_hello()->mutable_limits()->set_max_window(65); }},
       {"hello.blocks.evictable",
        [](M* m) { m->mutable_hello()->mutable_blocks()->set_evictable(7); }},
       {"hello.step_times.per_row_ns",
        [](M* m) { m->mutable_hello()->mutable_step_times()->set_per_row_ns(-1); }},
       {"hello.process_id", [](M* m) { m->mutable_hello()->set_process_id(-1); }}});
  using S = pb::SchedulerMessage;
  S refused;
  Write(Refused{"NO", "", false}, refused.mutable_refused());
  ExpectAllRefused<S>(
      refused, {{"refused.reason", [](S* m) { m->mutable_refused()->clear_reason(); }},
                {"refused.message",
                 [](S* m) { m->mutable_refused()->set_message(std::string(4097, 'x')); }}});
}

TEST(RejectsTest, Submit) {
  using M = pb::SubmitRequest;
  M good;
  Write(FullSubmit(), &good);
  ExpectAllRefused<M>(
      good,
      {{"schema_revision", [](M* m) { m->set_schema_revision(kSchemaRevision + 1); }},
       {"request_id", [](M* m) { m->clear_request_id(); }},
       {"request_id", [](M* m) { m->set_request_id(std::string(129, 'x')); }},
       {"vocabulary_fingerprint", [](M* m) { m->clear_vocabulary_fingerprint(); }},
       {"token_ids", [](M* m) { m->clear_token_ids(); }},
       {"token_ids[2]", [](M* m) { m->set_token_ids(2, -1); }},
       {"sampling", [](M* m) { m->clear_sampling(); }},
       {"sampling.temperature", [](M* m) { m->mutable_sampling()->set_temperature(kNan); }},
       {"end_token_ids[0]", [](M* m) { m->set_end_token_ids(0, -1); }},
       {"max_tokens", [](M* m) { m->set_max_tokens(0); }},
       {"deadline_ns", [](M* m) { m->set_deadline_ns(-1); }},
       {"deadline_ns", [](M* m) { m->set_deadline_ns(std::numeric_limits<int64_t>::max()); }},
       {"speculation", [](M* m) { m->set_speculation(static_cast<pb::SpeculationMode>(6)); }},
       {"num_speculative_tokens", [](M* m) { m->set_num_speculative_tokens(65); }},
       {"num_speculative_tokens", [](M* m) { m->set_num_speculative_tokens(-1); }},
       {"branch_top_k", [](M* m) { m->set_branch_top_k(0); }},
       {"branch_top_k", [](M* m) { m->set_branch_top_k(33); }}});
}

TEST(RejectsTest, CommittedAndCell) {
  using M = pb::Committed;
  M good;
  Write(FullCommitted(), &good);
  ExpectAllRefused<M>(
      good,
      {{"output_index", [](M* m) { m->set_output_index(-1); }},
       {"token_ids[0]", [](M* m) { m->set_token_ids(0, -1); }},
       {"origins", [](M* m) { m->mutable_origins()->RemoveLast(); }},
       {"origins[1]", [](M* m) { m->set_origins(1, static_cast<pb::TokenOrigin>(4)); }},
       {"finish", [](M* m) { m->set_finish(static_cast<pb::FinishReason>(9)); }},
       {"queue_time_ns", [](M* m) { m->set_queue_time_ns(-1); }},
       {"stats.rounds", [](M* m) { m->mutable_stats()->set_rounds(-1); }},
       {"stats.accepted_per_position",
        [](M* m) { m->mutable_stats()->set_accepted_per_position(0, -1); }},
       {"logprobs", [](M* m) { for (int i = 0; i < 4; ++i) m->add_logprobs(); }}});
  using C = pb::DescribeCellResponse;
  C cell;
  Write(FullCell(), &cell);
  ExpectAllRefused<C>(
      cell,
      {{"schema_revision", [](C* m) { m->set_schema_revision(9); }},
       {"workers[0].role", [](C* m) { m->mutable_workers(0)->set_role("boss"); }},
       {"workers[1].state", [](C* m) { m->mutable_workers(1)->clear_state(); }},
       {"workers[0].kv_blocks_free",
        [](C* m) { m->mutable_workers(0)->set_kv_blocks_free(11); }},
       {"default_speculation",
        [](C* m) { m->set_default_speculation(static_cast<pb::SpeculationMode>(-1)); }},
       {"num_requests_running", [](C* m) { m->set_num_requests_running(-1); }}});
}

// The limits of one field are made of another, which may be anything: no arithmetic overflows on the way.
TEST(RejectsTest, EndsOfTheTypes) {
  constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  ExpectAllRefused<pb::WorkerMessage>(
      GoodReports(),
      {{"reports[0].heartbeat.blocks.free",
        [](auto* m) {
          m->mutable_reports(0)->mutable_heartbeat()->mutable_blocks()->set_free(kLowest);
        }},
       {"reports[0].heartbeat.blocks.total",
        [](auto* m) {
          m->mutable_reports(0)->mutable_heartbeat()->mutable_blocks()->set_total(kLowest);
        }}});
  ExpectAllRefused<pb::SchedulerMessage>(
      GoodCommands(),
      {{"commands[2].start_verify.items[0].committed_length", [](auto* m) {
          m->mutable_commands(2)->mutable_start_verify()->mutable_items(0)->set_committed_length(
              std::numeric_limits<int32_t>::min());
        }}});
  pb::DescribeCellResponse cell;
  Write(FullCell(), &cell);
  ExpectAllRefused<pb::DescribeCellResponse>(
      cell, {{"workers[0].kv_blocks_free",
              [](auto* m) { m->mutable_workers(0)->set_kv_blocks_free(kLowest); }}});
}

}  // namespace
}  // namespace mirrorsd::wire
