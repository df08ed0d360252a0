// The way of an early-exit report: sent by a verifier's process, through the scheduler's actor, to the
// actor of a draft's process, where the rollout would start. Three processes on this host, real streams; no
// model and no core. Prints microseconds over loopback TCP and over a Unix socket.
// Usage: relay_bench [ROUNDS [SEQUENCES]]

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "grpcpp/grpcpp.h"
#include "services/rpc/attach_client.h"
#include "services/rpc/attach_server.h"
#include "services/rpc/channel.h"
#include "services/runtime/actor.h"
#include "services/runtime/clock.h"

namespace mirrorsd {
namespace {

int num_sequences = 8;           // of a report; set before the forks
constexpr int kRows = 5;         // window of 4
constexpr int kCandidates = 4;
constexpr Fence kVerifierFence{1, 1}, kDraftFence{1, 2};

Hello MakeHello(WorkerRole role) {
  return {.role = role,
          .name = "bench",
          .context_length = 16,
          .vocabulary_size = 8,
          .num_layers = 1,
          .kv_block_tokens = 4,
          .limits = {.max_sequences = 1, .max_rows = 1, .max_window = 4}};
}

rpc::AttachClientOptions ClientOptions(const std::string& address) {
  return {.channel = rpc::DialTo(address), .heartbeat = [] { return Heartbeat{}; }};
}

EarlyExitReported MakeReport() {
  EarlyExitReported report{.round_id = 1};
  for (int i = 0; i < num_sequences; ++i) {
    EarlyExitItem item{.sequence_id = static_cast<SequenceId>(i)};
    for (int r = 0; r < kRows; ++r) {
      EarlyExitRow row;
      if (r + 1 < kRows) row.drafted_score = 1.0f;
      row.candidates.assign(kCandidates, {.token = 100 + r, .score = 0.5f});
      item.rows.push_back(row);
    }
    report.items.push_back(item);
  }
  return report;
}

// Sends a report every 2 ms until it is killed.
class VerifierProcess : public rpc::AttachListener {
 public:
  void OnWelcome(const Fence&) override { welcome_ = true; }
  bool OnCommands(const Fence&, std::vector<WorkerCommand>) override { return true; }
  void OnDetached(const absl::Status&) override {
    client_->Dial(MakeHello(WorkerRole::kVerifier));  // the scheduler may not listen yet
  }

  void Run(const std::string& address) {
    rpc::AttachClient client(this, ClientOptions(address));
    client_ = &client;
    client.Dial(MakeHello(WorkerRole::kVerifier));
    EarlyExitReported report = MakeReport();
    while (true) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (!welcome_) continue;
      report.sent_at_ns = runtime::MonotonicNanos();
      client.Send(kVerifierFence, {report});
    }
  }

 private:
  rpc::AttachClient* client_ = nullptr;
  std::atomic<bool> welcome_{false};
};

// Its actor takes the rollouts, notes their age, and prints when it has enough.
class DraftProcess : public rpc::AttachListener {
 public:
  DraftProcess(const char* name, size_t rounds) : name_(name), rounds_(rounds) {}
  void OnWelcome(const Fence&) override {}
  bool OnCommands(const Fence&, std::vector<WorkerCommand> commands) override {
    return actor_.Push(std::move(commands));
  }
  void OnDetached(const absl::Status&) override { client_->Dial(MakeHello(WorkerRole::kDraft)); }

  void Run(const std::string& address) {
    actor_.Start({.on_message = [this](std::vector<WorkerCommand>&& batch) { Take(batch); },
                  .next_deadline = [] { return absl::InfiniteFuture(); },
                  .on_time = [](absl::Time) {}});
    rpc::AttachClient client(this, ClientOptions(address));
    client_ = &client;
    client.Dial(MakeHello(WorkerRole::kDraft));
    while (true) pause();
  }

 private:
  void Take(const std::vector<WorkerCommand>& batch) {
    const int64_t now = runtime::MonotonicNanos();
    const auto* rollout = std::get_if<StartRollout>(&batch.front());
    if (rollout == nullptr || rollout->exit_sent_at_ns == 0) return;
    microseconds_.push_back(static_cast<double>(now - rollout->exit_sent_at_ns) / 1000);
    if (microseconds_.size() < rounds_) return;
    std::sort(microseconds_.begin(), microseconds_.end());
    const auto at = [&](double share) {
      return microseconds_[static_cast<size_t>(share * (microseconds_.size() - 1))];
    };
    std::printf("%-9s relay us: min %.0f  p50 %.0f  p90 %.0f  p99 %.0f  (%zu rounds)\n", name_,
                at(0), at(0.5), at(0.9), at(0.99), rounds_);
    std::fflush(stdout);
    _exit(0);
  }

  const char* const name_;
  const size_t rounds_;
  std::vector<double> microseconds_;
  rpc::AttachClient* client_ = nullptr;
  runtime::Actor<std::vector<WorkerCommand>> actor_{"draft", 1024, 16};
};

// The scheduler's share: stream to actor, actor to stream.
class SchedulerProcess : public rpc::AttachHandler {
 public:
  struct Inbound {
    ConnectionId connection;
    std::optional<Hello> hello;
    std::vector<WorkerReport> reports;
  };

  bool OnHello(ConnectionId connection, Hello hello) override {
    return actor_.Push({connection, std::move(hello), {}});
  }
  bool OnReports(ConnectionId connection, Fence, std::vector<WorkerReport> reports,
                 rpc::Receipt) override {
    return actor_.Push({connection, std::nullopt, std::move(reports)});
  }
  void OnDetached(ConnectionId, const std::string&) override {}

  void Run(const std::string& address) {
    actor_.Start({.on_message = [this](Inbound&& inbound) { Take(inbound); },
                  .next_deadline = [] { return absl::InfiniteFuture(); },
                  .on_time = [](absl::Time) {}});
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(server_.service());
    const auto server = builder.BuildAndStart();
    CHECK(server != nullptr) << "cannot listen on " << address;
    while (true) pause();
  }

 private:
  void Take(const Inbound& inbound) {
    if (inbound.hello.has_value()) {
      const bool draft = inbound.hello->role == WorkerRole::kDraft;
      if (draft) draft_ = inbound.connection;
      server_.Greet(inbound.connection, {1, draft ? kDraftFence.incarnation
                                                  : kVerifierFence.incarnation});
      return;
    }
    for (const WorkerReport& report : inbound.reports) {
      const auto* exit = std::get_if<EarlyExitReported>(&report);
      if (exit == nullptr || draft_ == 0) continue;
      for (const EarlyExitItem& item : exit->items) {
        StartRollout rollout{.sequence_id = item.sequence_id,
                             .round_id = exit->round_id,
                             .committed_length = 10,
                             .path_offset = 8,
                             .path_tokens = {1, 2},
                             .window = {1, 2, 3, 4},
                             .depth = 4,
                             .exit_sent_at_ns = exit->sent_at_ns};
        for (int r = 0; r < kRows; ++r) {
          rollout.roots.push_back({.num_accepted = r, .token = item.rows[r].candidates[0].token});
        }
        server_.Send(draft_, kDraftFence, rollout);
      }
      server_.Flush(draft_);
    }
  }

  ConnectionId draft_ = 0;
  rpc::AttachServer server_{this, {}};
  runtime::Actor<Inbound> actor_{"scheduler", 1024, 16};
};

// gRPC does not survive a fork: each process is forked before anything of it is touched.
template <typename Body>
pid_t Fork(const Body& body) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    body();
    _exit(1);
  }
  return child;
}

void Measure(const char* name, const std::string& address, size_t rounds) {
  const pid_t scheduler = Fork([&] { SchedulerProcess().Run(address); });
  const pid_t draft = Fork([&] { DraftProcess(name, rounds).Run(address); });
  const pid_t verifier = Fork([&] { VerifierProcess().Run(address); });
  int status = 0;
  waitpid(draft, &status, 0);
  for (const pid_t child : {verifier, scheduler}) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
}

}  // namespace
}  // namespace mirrorsd

int main(int argc, char** argv) {
  const size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000;
  if (argc > 2) mirrorsd::num_sequences = std::atoi(argv[2]);
  const std::string socket = absl::StrCat("/tmp/mirrorsd-relay-bench-", getpid());
  mirrorsd::Measure("loopback", "127.0.0.1:43117", rounds);
  mirrorsd::Measure("unix", "unix:" + socket, rounds);
  unlink(socket.c_str());
  return 0;
}
