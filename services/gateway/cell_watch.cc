#include "services/gateway/cell_watch.h"

#include <chrono>
#include <utility>

namespace mirrorsd::gateway {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(2);

}  // namespace

CellWatch::CellWatch(rpc::SubmitClient* client, absl::Duration interval,
                     std::function<void(const CellView&)> on_answer)
    : client_(client), interval_(interval), on_answer_(std::move(on_answer)),
      view_(std::make_shared<CellView>(CellView{.error = "the scheduler was not asked yet"})) {}

CellWatch::~CellWatch() { Stop(); }

void CellWatch::Start() {
  thread_ = std::thread([this] { Run(); });
}

std::shared_ptr<const CellView> CellWatch::view() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return view_;
}

void CellWatch::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void CellWatch::Run() {
  while (true) {
    auto next = std::make_shared<CellView>(*view());
    absl::StatusOr<CellDescription> cell = client_->DescribeCell(kAnswerTimeout);
    next->reachable = cell.ok();
    next->error = cell.ok() ? "" : std::string(cell.status().message());
    if (cell.ok()) next->cell = *std::move(cell);
    std::unique_lock<std::mutex> lock(mutex_);
    view_ = next;
    lock.unlock();
    on_answer_(*next);
    lock.lock();
    changed_.wait_for(lock, std::chrono::nanoseconds(absl::ToInt64Nanoseconds(interval_)),
                      [this] { return stopped_; });
    if (stopped_) return;
  }
}

}  // namespace mirrorsd::gateway
