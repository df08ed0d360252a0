#include "services/journal/replay.h"

#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "scheduler/policy/policies.h"
#include "services/journal/action_digest.h"

namespace mirrorsd::journal {
namespace {

std::string Brief(const std::string& digest) {
  return absl::BytesToHexString(digest.substr(0, 6));
}

// The difference at a checkpoint, or nothing.
std::string Compare(const Checkpoint& recorded, const Checkpoint& repeated, uint64_t num_proven) {
  if (recorded.num_events == repeated.num_events &&
      recorded.num_actions == repeated.num_actions &&
      recorded.actions_sha256 == repeated.actions_sha256) {
    return "";
  }
  return absl::StrCat("at the checkpoint behind event ", repeated.num_events,
                      " the core had done ", repeated.num_actions, " actions (digest ",
                      Brief(repeated.actions_sha256), "), recorded are ", recorded.num_actions,
                      " behind event ", recorded.num_events, " (digest ",
                      Brief(recorded.actions_sha256), "); up to event ", num_proven, " they agree");
}

}  // namespace

absl::StatusOr<scheduler::CoreConfig> ConfigOf(const wire::RecordedLife& life) {
  scheduler::CoreConfig config = life.config;
  for (const wire::RecordedPolicy& recorded : life.policies) {
    bool found = false;
    for (const SpeculationPolicy& policy : scheduler::Policies()) {
      if (policy.name != recorded.name || policy.mode != recorded.mode) continue;
      config.policies.push_back(policy);
      found = true;
    }
    if (!found) {
      return BadFile("policies", absl::StrCat("this build has no policy '", recorded.name,
                                              "' for that mode; the life was recorded by ",
                                              life.build.version));
    }
  }
  return config;
}

absl::StatusOr<ReplayReport> Replay(JournalReader* reader,
                                    const std::function<void(const ReplayStep&)>& on_step) {
  if (reader->head().is_ring) {
    return BadFile("ring", "holds the last events of a life, not a whole one: it can tell stories, "
                           "and cannot be repeated");
  }
  auto config = ConfigOf(reader->head().life);
  if (!config.ok()) return config.status();
  scheduler::Core core(*std::move(config));
  ReplayReport report;
  ActionDigest digest;
  absl::flat_hash_set<ConnectionId> streams;
  std::vector<scheduler::Action> actions;
  JournalEntry entry;
  while (report.difference.empty()) {
    const auto more = reader->Next(&entry);
    if (!more.ok()) return more.status();
    if (!*more) return report;
    if (const auto* recorded = std::get_if<wire::RecordedEvent>(&entry)) {
      const auto* submitted = std::get_if<scheduler::Submitted>(&recorded->event);
      if (submitted != nullptr && !streams.insert(submitted->stream).second) {
        return BadFile("events", absl::StrCat("event ", reader->event_number(),
                                              " submits to a stream that was there before"));
      }
      actions.clear();
      core.Step(recorded->now, recorded->event, &actions);
      core.TakeObservations();
      for (const scheduler::Action& action : actions) digest.Add(action);
      ++report.num_events;
      report.num_actions += actions.size();
      if (on_step) on_step({reader->event_number(), recorded, actions});
    } else if (const auto* checkpoint = std::get_if<Checkpoint>(&entry)) {
      report.difference =
          Compare(*checkpoint, {report.num_events, report.num_actions, digest.Bytes()},
                  report.num_proven);
      if (report.difference.empty()) report.num_proven = report.num_events;
    }
  }
  return report;
}

}  // namespace mirrorsd::journal
