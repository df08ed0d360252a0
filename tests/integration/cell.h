#pragma once
// A whole cell in one process for tests: a scheduler, verifiers and drafts of micro models or model folders,
// and a client. Workers attach over the in-process channel or over a socket of the scheduler. Destroying
// and adding workers is how tests lose and restart them. Not thread-safe, but for the requests.

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/request.h"
#include "services/draft/draft_worker.h"
#include "services/rpc/submit_client.h"
#include "services/scheduler/scheduler_server.h"
#include "services/verifier/verifier_worker.h"
#include "tests/support/micro_model.h"

namespace mirrorsd::testing {

// Polls until it holds, at most half a minute.
bool Eventually(const std::function<bool()>& good);

// What a draft of nobody's model says of itself to a TestCell with micro models.
Hello ForeignDraftHello(const std::string& name);

// One request on its way and what came of it.
class Generation {
 public:
  // Blocks until the end, at most a minute.
  void Wait();
  // Until that many tokens have come or the request has ended.
  void WaitForTokens(size_t num_tokens);
  void Cancel() { call_->Cancel(); }

  // After Wait().
  std::vector<TokenId> tokens;
  std::vector<TokenOrigin> origins;
  FinishReason finish = FinishReason::kNone;
  SpeculationStats stats;
  absl::Status status;
  bool well_ordered = true;  // each message began where the last one ended

 private:
  friend class TestCell;
  void Take(const Committed& committed);
  void End(const absl::Status& end);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::shared_ptr<rpc::SubmitClient::Call> call_;
};

class TestCell {
 public:
  explicit TestCell(scheduler::SchedulerServerOptions options = {});
  ~TestCell();

  scheduler::SchedulerServer& scheduler() { return *scheduler_; }
  rpc::ChannelFactory InProcess();

  // Micro models, whose vocabularies all have the same fingerprint. An earlier worker of that name is
  // destroyed first. No wait.
  void AddVerifier(const std::string& name, const MicroModelOptions& model,
                   rpc::ChannelFactory channel = nullptr, int num_kv_blocks = 2048);
  void AddDraft(const std::string& name, const MicroModelOptions& model,
                rpc::ChannelFactory channel = nullptr);
  // A model folder; both roles run it.
  absl::Status AddFolder(const std::string& folder);
  void RemoveVerifier(const std::string& name) { verifiers_.erase(name); }
  void RemoveDraft(const std::string& name) { drafts_.erase(name); }
  verifier::VerifierWorker& verifier(const std::string& name) { return *verifiers_.at(name); }

  // Waits until the scheduler has that many workers of each kind, at most half a minute.
  bool WaitForWorkers(int num_verifiers, int num_drafts);
  // Waits until no block of any verifier is referenced and no worker has a sequence.
  bool WaitUntilIdle();
  CellDescription Describe();

  std::shared_ptr<Generation> Submit(SubmitRequest request);
  std::shared_ptr<Generation> Run(const SubmitRequest& request);  // and waits

  // A request with a fresh id, greedy, without end tokens.
  SubmitRequest Request(std::vector<TokenId> prompt, int max_tokens,
                        SpeculationMode mode = SpeculationMode::kOff);

 private:
  template <typename Options>
  Options WorkerOptions(const std::string& name, rpc::ChannelFactory channel);

  std::unique_ptr<scheduler::SchedulerServer> scheduler_;
  std::map<std::string, std::unique_ptr<verifier::VerifierWorker>> verifiers_;
  std::map<std::string, std::unique_ptr<draft::DraftWorker>> drafts_;
  std::unique_ptr<rpc::SubmitClient> client_;
  std::string vocabulary_ = "micro-vocabulary";
  int next_request_ = 0;
};

}  // namespace mirrorsd::testing
