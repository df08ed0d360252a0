// What must have happened by a certain time. The bounds, in virtual time:
//   a deadline or limit of the configuration   kept within kSlack of the clock's next tick
//   progress    a healthy verifier with sequences begins or ends a round, or starts one, within kProgress;
//               who may go to an empty healthy verifier is there within kPlaced
//   starvation  a request that stays at a healthy verifier takes a step forward within kStarved

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/oracle/oracle.h"

namespace mirrorsd::sim {
namespace {

constexpr absl::Duration kSlack = absl::Milliseconds(300);
constexpr absl::Duration kProgress = absl::Seconds(3);
constexpr absl::Duration kPlaced = absl::Seconds(2);
constexpr absl::Duration kStarved = absl::Seconds(12);

}  // namespace

// Nothing has been wrong with it for that long.
bool Oracle::IsHealthy(const Peer& peer, absl::Duration for_long) const {
  const SimWorker& worker = *peer.worker;
  const absl::Time since =
      std::max({peer.attached_at, worker.thawed_at(), stood_still_at_});
  return peer.welcomed && !peer.closed && !peer.slow && !worker.dead() && !worker.frozen() &&
         now_ - since > for_long;
}

void Oracle::Watch(absl::Time now) {
  now_ = now;
  for (auto& [id, peer] : peers_) {
    if (peer->welcomed && !peer->closed) WatchPeer(peer.get());
  }
  if (num_live() == 0) return;
  for (auto& [stream, request] : requests_) {
    if (request->live()) WatchRequest(request.get());
  }
}

void Oracle::WatchPeer(Peer* peer) {
  if (now_ - stood_still_at_ < absl::Seconds(5)) return;
  const absl::Duration slack = kSlack + plan_.tick;
  if (now_ - peer->heard_at > plan_.config.worker_timeout + slack) {
    Violation(absl::StrCat(peer->hello.name, " is silent and still attached"));
  }
  if (!peer->round.has_value()) WatchEnding(*peer);
  if (!peer->is_verifier()) return;
  if (peer->round.has_value() && !peer->slow) {
    const absl::Duration hello = absl::Nanoseconds(peer->hello.step_times.base_ns) * 2;
    const absl::Duration longest = std::max(peer->longest_round, hello);
    const absl::Duration limit = std::max(10 * longest, plan_.config.min_round_timeout);
    if (now_ - peer->round_at > limit + slack) {
      Violation(absl::StrCat(peer->hello.name, " is in one round for ever"));
    }
  }
  if (peer->num_live > 0 && IsHealthy(*peer, kProgress) && now_ - peer->moved_at > kProgress) {
    Violation(absl::StrCat("no progress at ", peer->hello.name));
  }
}

// What was to end and was not answered is given up by the core, which counts it. While a round is under way,
// and as long again after it, the worker may have its reasons.
void Oracle::WatchEnding(const Peer& peer) {
  const absl::Duration limit = plan_.config.end_timeout + kSlack + plan_.tick;
  if (peer.num_ending == 0 || (peer.is_verifier() && now_ - peer.moved_at < limit)) return;
  for (auto& [id, held] : held_) {
    if (held.peer != &peer || held.request != nullptr || held.given_up) continue;
    if (now_ - held.ended_at < limit) continue;
    held.given_up = true;
    if (++num_given_up_ > end_timeouts_) Violation("an end that never comes is waited for");
  }
}

void Oracle::WatchRequest(Request* request) {
  const absl::Duration slack = kSlack + plan_.tick;
  const scheduler::CoreConfig& config = plan_.config;
  const absl::Duration age = now_ - request->submitted_at;
  const absl::Duration waited = now_ - request->life_since;
  if (now_ - stood_still_at_ < absl::Seconds(5)) return;
  if (request->submit.deadline.has_value() && age > *request->submit.deadline + slack) {
    Violation(absl::StrCat("stream ", request->stream, " outlives its deadline"));
  }
  if (request->life != Life::kWaiting) {
    const bool stuck = request->life == Life::kStarting && !request->verifier->round.has_value() &&
                       now_ - std::max(request->life_since, request->verifier->moved_at) >
                           config.min_round_timeout + slack;
    if (stuck) Violation(absl::StrCat("stream ", request->stream, " is never started"));
    const bool starved = now_ - request->moved_at > kStarved;
    if (starved && IsHealthy(*request->verifier, kStarved)) {
      Violation(absl::StrCat("stream ", request->stream, " starves at ",
                             request->verifier->hello.name));
    }
    return;
  }
  // For one that had a place, what counts is the time without any verifier that may serve it.
  for (const auto& [id, peer] : peers_) {
    if (request->num_places > 0 && MayServe(*peer, *request)) request->served_at = now_;
  }
  const absl::Duration limit =
      request->num_places == 0 ? config.queue_timeout : config.verifier_loss_timeout;
  const absl::Duration alone = now_ - std::max(request->life_since, request->served_at);
  if (alone > limit + slack) {
    Violation(absl::StrCat("stream ", request->stream, " waits beyond the limit"));
  }
  for (const auto& [id, peer] : peers_) {
    if (!peer->is_verifier() || peer->draining || !IsHealthy(*peer, kPlaced)) continue;
    const bool equal =
        request->output.empty() || request->numerics_id == peer->hello.numerics_id;
    const bool roomy = peer->num_live + peer->num_ending == 0;
    if (!equal && roomy) coverage_->Count(Row::kNumericsRefused);
    if (equal && roomy && waited > kPlaced) {
      Violation(absl::StrCat("stream ", request->stream, " waits beside an empty verifier"));
    }
  }
}

void Oracle::ItemFailed(SequenceId id, const std::string& reason) {
  if (FindLive(id) != nullptr) coverage_->Count(FaultKind::kItemError, WorkerRole::kVerifier);
}

void Oracle::AtEnd(const scheduler::Core& core) {
  for (const auto& [stream, request] : requests_) {
    if (request->live()) Violation(absl::StrCat("stream ", stream, " has no end"));
  }
  if (!core.IsDrained()) Violation("not drained");
  const scheduler::CoreGauges gauges = core.Gauges();
  if (gauges.kv_blocks_reserved != 0) Violation("blocks leaked in the core's books");
  for (const auto& [id, peer] : peers_) {
    if (peer->closed || !peer->welcomed) continue;
    const KvBlocks blocks = peer->worker->Blocks();
    if (peer->worker->num_sequences() != 0 || blocks.free != blocks.total) {
      Violation(absl::StrCat(peer->hello.name, " still holds a sequence"));
    }
  }
}

}  // namespace mirrorsd::sim
