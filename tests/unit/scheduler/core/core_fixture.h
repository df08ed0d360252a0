#pragma once
// A core with a hand to play its fleet: each call is one event, and what the core answered is kept.
// What is better told as a story stands in tests/scenarios. Not thread-safe.

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {

class CoreFixture : public testing::Test {
 protected:
  static CoreConfig Config() {
    CoreConfig config;
    for (const SpeculationPolicy& policy : Policies()) config.policies.push_back(policy);
    return config;
  }

  void Make(CoreConfig config) { core_ = std::make_unique<Core>(std::move(config)); }

  static Hello MakeHello(WorkerRole role, const std::string& name) {
    Hello hello;
    hello.role = role;
    hello.name = name;
    hello.model_fingerprint = role == WorkerRole::kVerifier ? "target" : "draft";
    hello.vocabulary_fingerprint = "words";
    hello.numerics_id = "f32";
    hello.context_length = 256;
    hello.vocabulary_size = 100;
    hello.kv_block_tokens = 16;
    hello.limits = {64, 512, 16};
    hello.blocks = {256, 256, 0};
    hello.step_times = {1000000, 0};
    return hello;
  }

  void Step(const Event& event) {
    actions_.clear();
    core_->Step(now_, event, &actions_);
    core_->CheckInvariants();
  }

  // Returns the connection.
  ConnectionId Attach(const Hello& hello) {
    const ConnectionId connection = ++last_connection_;
    Step(WorkerAttached{connection, hello});
    return connection;
  }
  ConnectionId AttachVerifier(const std::string& name = "v") {
    return Attach(MakeHello(WorkerRole::kVerifier, name));
  }
  ConnectionId AttachDraft(const std::string& name = "d") {
    return Attach(MakeHello(WorkerRole::kDraft, name));
  }

  static SubmitRequest MakeRequest(const std::string& id, int32_t max_tokens = 20) {
    SubmitRequest request;
    request.request_id = id;
    request.vocabulary_fingerprint = "words";
    request.token_ids = {1, 2, 3};
    request.max_tokens = max_tokens;
    return request;
  }
  // Returns the stream.
  ConnectionId Submit(const SubmitRequest& request) {
    Step(Submitted{++last_stream_, request});
    return last_stream_;
  }

  // The incarnation of a connection is its number as long as every attach was welcomed.
  void Report(ConnectionId connection, ReportItem item) {
    Step(WorkerReported{connection, Fence{1, connection}, std::move(item)});
  }
  void Verified(ConnectionId connection, RoundId round, SequenceId sequence, int32_t kv_length,
                int32_t num_accepted, TokenId token) {
    VerifyItemDone done;
    done.sequence_id = sequence;
    done.kv_length = kv_length;
    done.num_accepted = num_accepted;
    done.correction_token = token;
    Report(connection, VerifyItemReport{round, done});
  }
  void RoundDone(ConnectionId connection, RoundId round) {
    Report(connection, VerifyRoundDone{round, {}, {256, 256, 0}});
  }
  void Tick(absl::Duration duration) {
    now_ += duration;
    Step(TimePassed{});
  }

  // What the last event brought about.
  template <typename T>
  std::vector<T> Actions() const {
    std::vector<T> found;
    for (const Action& action : actions_) {
      if (const auto* is = std::get_if<T>(&action)) found.push_back(*is);
    }
    return found;
  }
  template <typename T>
  std::vector<T> Commands() const {
    std::vector<T> found;
    for (const SendToWorker& send : Actions<SendToWorker>()) {
      if (const auto* is = std::get_if<T>(&send.command)) found.push_back(*is);
    }
    return found;
  }

  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<Core> core_ = std::make_unique<Core>(Config());
  std::vector<Action> actions_;
  ConnectionId last_connection_ = 0;
  ConnectionId last_stream_ = 1000;
};

}  // namespace mirrorsd::scheduler
