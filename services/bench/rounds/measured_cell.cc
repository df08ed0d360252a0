#include "services/bench/rounds/measured_cell.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "grpcpp/channel.h"
#include "mirrorsd/v1/inference.grpc.pb.h"
#include "services/cell/cell.h"
#include "services/cell/processes/separate_cell.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/rpc/channel.h"
#include "services/runtime/clock.h"
#include "services/telemetry/metrics.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::bench {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(600);  // a large model is generated or read first
constexpr absl::Duration kAnswerTimeout = absl::Seconds(1800);
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
// The scheduler tells its metrics at most so often; in this process it is told to be quick.
constexpr absl::Duration kQuickReports = absl::Milliseconds(2);
constexpr absl::Duration kSettle = absl::Milliseconds(6);
constexpr absl::Duration kSettleSeparately = absl::Milliseconds(60);

void Sleep(absl::Duration duration) { std::this_thread::sleep_for(absl::ToChronoNanoseconds(duration)); }

// One stream. Owned by its batch, which waits for every OnDone.
class Stream final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Stream(v1::Inference::Stub* stub, const v1::GenerateRequest& request, absl::Time asked_at,
         std::function<void()> on_done)
      : request_(request), asked_at_(asked_at), on_done_(std::move(on_done)) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTimeout));
    stub->async()->Generate(&context_, &request_, this);
    StartRead(&incoming_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (incoming_.token_ids_size() > 0) {
      const absl::Duration now = runtime::MonotonicNow() - asked_at_;
      if (answer.token_ids.empty()) answer.first_token = now;
      answer.last_token = now;
      answer.token_ids.insert(answer.token_ids.end(), incoming_.token_ids().begin(),
                              incoming_.token_ids().end());
    }
    if (incoming_.has_final()) {
      answer.final = incoming_.final();
      has_final_ = true;
    }
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& end) override {
    status = wire::FromGrpcStatus(end);
    if (status.ok() && !has_final_) status = absl::InternalError("a stream ended without its final message");
    on_done_();
  }

  Answer answer;
  absl::Status status;

 private:
  const v1::GenerateRequest request_;
  const absl::Time asked_at_;
  const std::function<void()> on_done_;
  v1::GenerateResponse incoming_;
  grpc::ClientContext context_;
  bool has_final_ = false;
};

// Asks over a channel; where the cell runs is the subclasses' business.
class AskedCell : public MeasuredCell {
 public:
  absl::StatusOr<std::vector<Answer>> Ask(const std::vector<v1::GenerateRequest>& requests) override {
    std::mutex mutex;
    std::condition_variable changed;
    size_t num_done = 0;
    std::deque<Stream> streams;
    const absl::Time asked_at = runtime::MonotonicNow();
    for (const v1::GenerateRequest& request : requests) {
      streams.emplace_back(stub_.get(), request, asked_at, [&] {
        std::lock_guard<std::mutex> lock(mutex);
        ++num_done;
        changed.notify_one();
      });
    }
    absl::Status failure;
    std::unique_lock<std::mutex> lock(mutex);
    while (num_done < streams.size()) {
      changed.wait_for(lock, absl::ToChronoNanoseconds(kLookInterval));
      if (failure.ok()) failure = stopped_.load() ? absl::CancelledError("stopped") : Failure();
      if (failure.ok()) continue;
      for (Stream& stream : streams) stream.Cancel();
    }
    if (!failure.ok()) return failure;
    std::vector<Answer> answers;
    for (Stream& stream : streams) {
      if (!stream.status.ok()) return stream.status;
      answers.push_back(std::move(stream.answer));
    }
    return answers;
  }

  void Stop() override { stopped_.store(true); }

 protected:
  void SetChannel(std::shared_ptr<grpc::Channel> channel) {
    rpc::KeepCallbackThreads();
    stub_ = v1::Inference::NewStub(std::move(channel));
  }
  void DropChannel() { stub_.reset(); }
  // Why the cell cannot answer any more.
  virtual absl::Status Failure() = 0;

 private:
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::atomic<bool> stopped_{false};
};

class InProcessCell final : public AskedCell {
 public:
  ~InProcessCell() override { DropChannel(); }

  absl::Status Start(const config::Options& options) {
    cell::CellOptions cell_options = cell::CellOptionsFrom(options);
    cell_options.gateway.watch_interval = absl::Milliseconds(5);
    cell_options.scheduler.report_interval = kQuickReports;
    auto cell = cell::Cell::Start(std::move(cell_options), &registry_);
    if (!cell.ok()) return cell.status();
    cell_ = *std::move(cell);
    if (absl::Status status = cell_->WaitUntilReady(kReadyTimeout); !status.ok()) return status;
    SetChannel(cell_->gateway().InProcessChannel());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Metrics() override {
    Sleep(kSettle);
    cell_->ShowEmulation(&registry_);
    return registry_.Serialize();
  }

  const cell::Cell* cell() const override { return cell_.get(); }

 private:
  absl::Status Failure() override { return cell_->WorkerFailure(); }

  telemetry::MetricRegistry registry_;
  std::unique_ptr<cell::Cell> cell_;
};

class SeparateProcessesCell final : public AskedCell {
 public:
  ~SeparateProcessesCell() override {
    DropChannel();
    if (cell_ != nullptr) cell_->Drain(absl::Seconds(1));
  }

  absl::Status Start(const config::Options& options) {
    auto cell = cell::SeparateCell::Make(options, {}, [](const std::string&) {});
    if (!cell.ok()) return cell.status();
    cell_ = *std::move(cell);
    if (absl::Status status = cell_->Start(); !status.ok()) return status;
    const absl::Time deadline = runtime::MonotonicNow() + kReadyTimeout;
    while (!cell_->IsReady()) {
      if (absl::Status status = cell_->Look(); !status.ok()) return status;
      if (runtime::MonotonicNow() > deadline) return absl::UnavailableError("the cell did not become ready");
      Sleep(kLookInterval);
    }
    SetChannel(rpc::DialChannel(cell_->grpc_address()));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Metrics() override {
    Sleep(kSettleSeparately);
    return cell_->Metrics();
  }

  std::vector<pid_t> children() const override { return cell_->pids(); }

 private:
  absl::Status Failure() override { return cell_->Look(); }

  std::unique_ptr<cell::SeparateCell> cell_;
};

template <typename T>
absl::StatusOr<std::unique_ptr<MeasuredCell>> Started(const config::Options& options) {
  auto cell = std::make_unique<T>();
  if (absl::Status status = cell->Start(options); !status.ok()) return status;
  return cell;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MeasuredCell>> StartMeasuredCell(const config::Options& options) {
  cell::ExitOnSignal loading;
  const bool separate = options.Takes("separate-processes") && options.Flag("separate-processes");
  return separate ? Started<SeparateProcessesCell>(options)
                                            : Started<InProcessCell>(options);
}

}  // namespace mirrorsd::bench
