#include "fake_scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "services/rpc/channel.h"

namespace mirrorsd::gateway {
namespace {

constexpr std::chrono::seconds kPatience{20};

}  // namespace

FakeScheduler::FakeScheduler(CellDescription cell) : cell_(std::move(cell)), submit_(this, {}) {
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder);
  builder.RegisterService(submit_.service());
  server_ = builder.BuildAndStart();
}

FakeScheduler::~FakeScheduler() {
  submit_.FailAll(absl::UnavailableError("over"));
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

std::pair<ConnectionId, SubmitRequest> FakeScheduler::WaitForSubmit(size_t n) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_for(lock, kPatience, [&] { return submitted_.size() > n; })) return {};
  return submitted_[n];
}

bool FakeScheduler::WaitForCancel(ConnectionId stream) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] {
    return std::find(cancelled_.begin(), cancelled_.end(), stream) != cancelled_.end();
  });
}

void FakeScheduler::SetCell(const CellDescription& cell) {
  std::lock_guard<std::mutex> lock(mutex_);
  cell_ = cell;
}

void FakeScheduler::Commit(ConnectionId stream, std::vector<TokenId> ids, FinishReason finish) {
  Committed committed;
  committed.origins.assign(ids.size(), TokenOrigin::kBonus);
  committed.token_ids = std::move(ids);
  committed.finish = finish;
  submit_.Send(stream, std::move(committed));
}

bool FakeScheduler::OnSubmit(ConnectionId stream, SubmitRequest request) {
  std::lock_guard<std::mutex> lock(mutex_);
  submitted_.emplace_back(stream, std::move(request));
  changed_.notify_all();
  return true;
}

void FakeScheduler::OnCancelled(ConnectionId stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  cancelled_.push_back(stream);
  changed_.notify_all();
}

bool FakeScheduler::OnDescribe(std::function<void(const CellDescription*)> reply) {
  std::lock_guard<std::mutex> lock(mutex_);
  reply(&cell_);
  return true;
}

}  // namespace mirrorsd::gateway
