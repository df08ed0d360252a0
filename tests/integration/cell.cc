#include "tests/integration/cell.h"

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/check.h"
#include "grpcpp/channel.h"

namespace mirrorsd::testing {
namespace {

constexpr std::chrono::seconds kPatience(60);

}  // namespace

bool Eventually(const std::function<bool()>& good) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!good()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void Generation::Wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  CHECK(changed_.wait_for(lock, kPatience, [this] { return done_; })) << "a request hangs";
}

void Generation::WaitForTokens(size_t num_tokens) {
  std::unique_lock<std::mutex> lock(mutex_);
  CHECK(changed_.wait_for(lock, kPatience,
                          [&] { return done_ || tokens.size() >= num_tokens; }))
      << "a request hangs";
}

void Generation::Take(const Committed& committed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (committed.output_index != static_cast<int32_t>(tokens.size()) || done_ ||
      finish != FinishReason::kNone) {
    well_ordered = false;
  }
  tokens.insert(tokens.end(), committed.token_ids.begin(), committed.token_ids.end());
  origins.insert(origins.end(), committed.origins.begin(), committed.origins.end());
  finish = committed.finish;
  stats = committed.stats;
  changed_.notify_all();
}

void Generation::End(const absl::Status& end) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (done_) well_ordered = false;
  done_ = true;
  status = end;
  changed_.notify_all();
}

Hello ForeignDraftHello(const std::string& name) {
  return {.role = WorkerRole::kDraft,
          .name = name,
          .boot_id = "elsewhere",
          .model_name = "none",
          .vocabulary_fingerprint = "micro-vocabulary",
          .numerics_id = "none",
          .context_length = 1024,
          .vocabulary_size = 64,
          .num_layers = 1,
          .kv_block_tokens = 16,
          .limits = {.max_sequences = 64, .max_rows = 64, .max_window = 16},
          .blocks = {.total = 1000, .free = 1000}};
}

TestCell::TestCell(scheduler::SchedulerServerOptions options) {
  // On a busy machine a draft would be late all the time, and nothing would be speculated at all.
  options.core.min_draft_wait = absl::Seconds(1);
  auto scheduler = scheduler::SchedulerServer::Start(std::move(options));
  CHECK(scheduler.ok()) << scheduler.status();
  scheduler_ = *std::move(scheduler);
  client_ = std::make_unique<rpc::SubmitClient>(scheduler_->InProcessChannel());
}

// The order of a shutdown: who calls before who is called.
TestCell::~TestCell() {
  client_.reset();
  drafts_.clear();
  verifiers_.clear();
  scheduler_.reset();
}

rpc::ChannelFactory TestCell::InProcess() {
  return [this] { return scheduler_->InProcessChannel(); };
}

template <typename Options>
Options TestCell::WorkerOptions(const std::string& name, rpc::ChannelFactory channel) {
  Options options;
  options.name = name;
  options.engine.num_threads = 1;
  options.session.limits.max_sequences = 128;
  options.attach.channel = channel != nullptr ? std::move(channel) : InProcess();
  options.attach.heartbeat_interval = absl::Milliseconds(100);
  return options;
}

void TestCell::AddVerifier(const std::string& name, const MicroModelOptions& model,
                           rpc::ChannelFactory channel, int num_kv_blocks) {
  verifiers_.erase(name);
  auto options = WorkerOptions<verifier::VerifierWorkerOptions>(name, std::move(channel));
  options.engine.num_kv_blocks = num_kv_blocks;
  auto engine = engine::Engine::Create(options.engine, MakeMicroModel(model));
  CHECK(engine.ok()) << engine.status();
  verifiers_[name] =
      verifier::VerifierWorker::CreateWith(*std::move(engine), vocabulary_, std::move(options));
  verifiers_[name]->Start();
}

void TestCell::AddDraft(const std::string& name, const MicroModelOptions& model,
                        rpc::ChannelFactory channel) {
  drafts_.erase(name);
  auto options = WorkerOptions<draft::DraftWorkerOptions>(name, std::move(channel));
  options.engine.num_kv_blocks = 2048;
  auto engine = engine::Engine::Create(options.engine, MakeMicroModel(model));
  CHECK(engine.ok()) << engine.status();
  drafts_[name] =
      draft::DraftWorker::CreateWith(*std::move(engine), vocabulary_, std::move(options));
  drafts_[name]->Start();
}

absl::Status TestCell::AddFolder(const std::string& folder) {
  auto verifier_options = WorkerOptions<verifier::VerifierWorkerOptions>("verifier", nullptr);
  verifier_options.engine.model_dir = folder;
  verifier_options.engine.num_kv_blocks = 256;
  auto verifier = verifier::VerifierWorker::Create(std::move(verifier_options));
  if (!verifier.ok()) return verifier.status();
  auto draft_options = WorkerOptions<draft::DraftWorkerOptions>("draft", nullptr);
  draft_options.engine.model_dir = folder;
  draft_options.engine.num_kv_blocks = 256;
  auto draft = draft::DraftWorker::Create(std::move(draft_options));
  if (!draft.ok()) return draft.status();
  (*verifier)->Start();
  (*draft)->Start();
  verifiers_["verifier"] = *std::move(verifier);
  drafts_["draft"] = *std::move(draft);
  if (!WaitForWorkers(1, 1)) return absl::DeadlineExceededError("the workers do not attach");
  vocabulary_ = Describe().vocabulary_fingerprint;
  return absl::OkStatus();
}

CellDescription TestCell::Describe() {
  auto cell = client_->DescribeCell(absl::Seconds(10));
  CHECK(cell.ok()) << cell.status();
  return *std::move(cell);
}

bool TestCell::WaitForWorkers(int num_verifiers, int num_drafts) {
  return Eventually([&] {
    int count[2] = {0, 0};
    for (const AttachedWorker& worker : Describe().workers) {
      ++count[worker.role == WorkerRole::kDraft];
    }
    return count[0] == num_verifiers && count[1] == num_drafts;
  });
}

bool TestCell::WaitUntilIdle() {
  return Eventually([&] {
    for (const AttachedWorker& worker : Describe().workers) {
      if (worker.num_sequences != 0) return false;
      if (worker.blocks.free + worker.blocks.evictable != worker.blocks.total) return false;
    }
    return true;
  });
}

std::shared_ptr<Generation> TestCell::Submit(SubmitRequest request) {
  auto generation = std::make_shared<Generation>();
  auto call = client_->Submit(
      request, {.on_committed = [generation](Committed c) { generation->Take(c); },
                .on_done = [generation](absl::Status status) { generation->End(status); }});
  generation->call_ = std::move(call);
  return generation;
}

std::shared_ptr<Generation> TestCell::Run(const SubmitRequest& request) {
  auto generation = Submit(request);
  generation->Wait();
  return generation;
}

SubmitRequest TestCell::Request(std::vector<TokenId> prompt, int max_tokens,
                                SpeculationMode mode) {
  SubmitRequest request;
  request.request_id = absl::StrCat("request-", next_request_++);
  request.vocabulary_fingerprint = vocabulary_;
  request.token_ids = std::move(prompt);
  request.sampling.temperature = 0;
  request.max_tokens = max_tokens;
  request.speculation = mode;
  return request;
}

}  // namespace mirrorsd::testing
