#include "services/cell/cell.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/runtime/clock.h"
#include "services/worker/emulation_report.h"

namespace mirrorsd::cell {
namespace {

constexpr char kVerifier[] = "verifier-worker";
constexpr char kDraft[] = "draft-worker";

}  // namespace

absl::StatusOr<std::unique_ptr<Cell>> Cell::Start(CellOptions options,
                                                  telemetry::MetricRegistry* metrics) {
  std::unique_ptr<Cell> cell(new Cell(metrics));
  options.scheduler.observer = &cell->report_metrics_;
  auto scheduler = scheduler::SchedulerServer::Start(std::move(options.scheduler));
  if (!scheduler.ok()) return scheduler.status();
  cell->scheduler_ = *std::move(scheduler);
  const rpc::ChannelFactory dial = [server = cell->scheduler_.get()] {
    return server->InProcessChannel();
  };

  // The gateway first: it reads small files only and says soonest what is wrong with a folder.
  options.gateway.scheduler = dial;
  options.gateway.metrics = metrics;
  auto gateway = gateway::GatewayServer::Start(std::move(options.gateway));
  if (!gateway.ok()) return gateway.status();
  cell->gateway_ = *std::move(gateway);

  options.verifier.attach.channel = dial;
  auto verifier = verifier::VerifierWorker::Create(std::move(options.verifier));
  if (!verifier.ok()) return verifier.status();
  cell->verifier_ = *std::move(verifier);
  if (options.draft.has_value()) {
    options.draft->attach.channel = dial;
    auto draft = draft::DraftWorker::Create(*std::move(options.draft));
    if (!draft.ok()) return draft.status();
    cell->draft_ = *std::move(draft);
  }
  worker::LogPacingBegin(kVerifier, cell->verifier_->pacer());
  if (cell->draft_ != nullptr) {
    worker::LogPacingBegin(kDraft, cell->draft_->pacer());
    worker::LogScriptBegin(kDraft, cell->draft_->session().script());
  }
  cell->verifier_->Start();
  if (cell->draft_ != nullptr) cell->draft_->Start();
  return cell;
}

Cell::~Cell() {
  if (gateway_ != nullptr) gateway_->Stop();
  if (draft_ != nullptr) draft_->Stop();
  if (verifier_ != nullptr) verifier_->Stop();
  if (scheduler_ != nullptr) scheduler_->Stop();
  if (verifier_ != nullptr) worker::LogPacingEnd(kVerifier, verifier_->pacer());
  if (draft_ != nullptr) {
    worker::LogPacingEnd(kDraft, draft_->pacer());
    worker::LogScriptEnd(kDraft, draft_->session().script());
  }
}

void Cell::ShowEmulation(telemetry::MetricRegistry* registry) const {
  worker::ShowPacing(registry, kVerifier, verifier_->pacer());
  if (draft_ == nullptr) return;
  worker::ShowPacing(registry, kDraft, draft_->pacer());
  worker::ShowScript(registry, draft_->session().script());
}

absl::Status Cell::WorkerFailure() {
  std::optional<absl::Status> over = verifier_->WaitUntilOver(absl::ZeroDuration());
  if (over.has_value() && !over->ok()) return *over;
  if (draft_ != nullptr) over = draft_->WaitUntilOver(absl::ZeroDuration());
  if (over.has_value() && !over->ok()) return *over;
  return absl::OkStatus();
}

absl::Status Cell::WaitUntilReady(absl::Duration timeout) {
  const absl::Time deadline = runtime::MonotonicNow() + timeout;
  while (true) {
    if (absl::Status failure = WorkerFailure(); !failure.ok()) return failure;
    const gateway::GatewayReadiness readiness = gateway_->readiness();
    const bool draft_attached = draft_ == nullptr || draft_->is_attached();
    if (readiness.ready && draft_attached) return absl::OkStatus();
    if (runtime::MonotonicNow() >= deadline) {
      return Unavailable("NOT_READY", absl::StrCat("the cell did not become ready: ",
                                                   readiness.ready ? "the draft has not attached"
                                                                   : readiness.reason));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void Cell::Drain(absl::Duration timeout) {
  const absl::Time deadline = runtime::MonotonicNow() + timeout;
  gateway_->Drain();
  gateway_->WaitUntilIdle(timeout);
  scheduler_->Drain();
  scheduler_->WaitUntilDrained(
      std::max(deadline - runtime::MonotonicNow(), absl::ZeroDuration()));
}

}  // namespace mirrorsd::cell
