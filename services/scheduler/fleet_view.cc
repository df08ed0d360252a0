#include "services/scheduler/fleet_view.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <variant>

#include "services/telemetry/log.h"

namespace mirrorsd::scheduler {
namespace {

constexpr char kComponent[] = "scheduler";

const char* RoleName(const Hello& hello) {
  return hello.role == WorkerRole::kDraft ? "draft" : "verifier";
}

void LogLoss(const Hello& hello, const std::string& reason) {
  telemetry::LogWarning(kComponent, "worker lost",
                        {{"worker", hello.name}, {"role", RoleName(hello)}, {"reason", reason}});
}

}  // namespace

FleetView::Entry* FleetView::Find(ConnectionId connection) {
  const auto found = workers_.find(connection);
  return found == workers_.end() ? nullptr : &found->second;
}

void FleetView::Watch(const Event& event) {
  if (const auto* attached = std::get_if<WorkerAttached>(&event)) {
    workers_[attached->connection] = {.hello = attached->hello, .blocks = attached->hello.blocks};
  } else if (const auto* detached = std::get_if<WorkerDetached>(&event)) {
    const Entry* entry = Find(detached->connection);
    if (entry != nullptr && entry->draining) {
      telemetry::LogInfo(kComponent, "worker left",
                         {{"worker", entry->hello.name}, {"role", RoleName(entry->hello)}});
    } else if (entry != nullptr) {
      LogLoss(entry->hello, detached->reason);
    }
    workers_.erase(detached->connection);
  } else if (const auto* reported = std::get_if<WorkerReported>(&event)) {
    if (Entry* entry = Find(reported->connection)) WatchReport(reported->item, entry);
  }
}

void FleetView::WatchReport(const ReportItem& item, Entry* entry) {
  if (const auto* heartbeat = std::get_if<Heartbeat>(&item)) {
    entry->blocks = heartbeat->blocks;
  } else if (const auto* done = std::get_if<VerifyRoundDone>(&item)) {
    entry->blocks = done->blocks;
  } else if (const auto* ended = std::get_if<SequenceEnded>(&item)) {
    entry->blocks = ended->blocks;
    entry->num_sequences = std::max(0, entry->num_sequences - 1);
  } else if (const auto* state = std::get_if<SequenceState>(&item)) {
    entry->blocks = state->blocks;
  } else if (std::holds_alternative<Drain>(item)) {
    entry->draining = true;
  }
}

void FleetView::Watch(const Action& action) {
  if (const auto* welcome = std::get_if<WelcomeWorker>(&action)) {
    Entry* entry = Find(welcome->connection);
    if (entry == nullptr) return;
    entry->welcome = true;
    telemetry::LogInfo(kComponent, "worker attached",
                       {{"worker", entry->hello.name},
                        {"role", RoleName(entry->hello)},
                        {"model", entry->hello.model_name},
                        {"numerics_id", entry->hello.numerics_id},
                        {"kv_blocks", entry->hello.blocks.total}});
    if (entry->hello.role == WorkerRole::kVerifier) target_ = entry->hello;
  } else if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
    if (const Entry* entry = Find(refuse->connection)) {
      telemetry::LogWarning(kComponent, "worker refused",
                            {{"worker", entry->hello.name},
                             {"role", RoleName(entry->hello)},
                             {"reason", refuse->refused.message}});
    }
    workers_.erase(refuse->connection);
  } else if (const auto* close = std::get_if<CloseWorker>(&action)) {
    if (const Entry* entry = Find(close->connection)) LogLoss(entry->hello, close->reason);
    workers_.erase(close->connection);
  } else if (const auto* send = std::get_if<SendToWorker>(&action)) {
    Entry* entry = Find(send->connection);
    if (entry == nullptr) return;
    if (std::holds_alternative<StartSequence>(send->command)) ++entry->num_sequences;
    // A draft answers no EndSequence; a verifier's sequence lives until its SequenceEnded.
    if (std::holds_alternative<EndSequence>(send->command) &&
        entry->hello.role == WorkerRole::kDraft) {
      entry->num_sequences = std::max(0, entry->num_sequences - 1);
    }
  }
}

std::vector<AttachedWorker> FleetView::Workers(
    const std::vector<ConnectionId>& late_drafts) const {
  std::vector<AttachedWorker> workers;
  for (const auto& [connection, entry] : workers_) {
    if (!entry.welcome) continue;
    const bool late =
        std::find(late_drafts.begin(), late_drafts.end(), connection) != late_drafts.end();
    workers.push_back({.name = entry.hello.name,
                       .role = entry.hello.role,
                       .state = entry.draining ? "draining" : late ? "late" : "ready",
                       .model_name = entry.hello.model_name,
                       .numerics_id = entry.hello.numerics_id,
                       .process_id = entry.hello.process_id,
                       .blocks = entry.blocks,
                       .num_sequences = entry.num_sequences});
  }
  return workers;
}

}  // namespace mirrorsd::scheduler
