// When the blocks of a verifier run short: who gives up its place so that the others go on. Windows have
// shrunk and chunks wait by then (rounds.cc); what is left is the one row that each sequence needs to go on.
// The youngest is preempted: its committed tokens wait for room with headroom (KvLedger::Fits) and are
// prefilled again. The oldest never is, so it ends, and then another one is the oldest: no deadlock, no
// starvation.

#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {

// Preempts until the rows that must be have their blocks, now or once SequenceEnded has brought back those
// of who ends. Who has to wait for that sits out a round.
void Machine::MakeRoom(Worker* verifier, const Cohort& cohort) {
  const KvLedger& ledger = verifier->ledger;
  // A row needs one more block at most.
  if (ledger.free_blocks() > static_cast<int64_t>(cohort.decoding.size())) return;
  if (verifier->live.empty()) return;
  const auto missing_of = [&ledger](const Sequence& sequence) {
    return ledger.Missing(sequence.kv, sequence.committed_length());
  };
  int64_t missing = 0;
  for (const Sequence* sequence : cohort.decoding) missing += missing_of(*sequence);
  const Sequence& oldest = *verifier->live.begin()->second;
  if (oldest.stage == Stage::kPrefilling) {
    missing += ledger.Missing(oldest.kv, oldest.prefilled_length + 1);
  }
  while (missing > ledger.free_blocks() + ledger.closing_blocks()) {
    Sequence* victim = FindVictim(*verifier);
    if (victim == nullptr) return;
    if (victim->stage == Stage::kDecoding && &verifier->CohortOf(*victim) == &cohort) {
      missing -= missing_of(*victim);
    }
    Preempt(victim);
  }
}

// The youngest that no outstanding round names, and never the oldest.
Sequence* Machine::FindVictim(const Worker& verifier) const {
  for (auto entry = verifier.live.rbegin(); entry != verifier.live.rend(); ++entry) {
    Sequence* sequence = entry->second;
    if (entry->first == verifier.live.begin()->first) return nullptr;
    if (sequence->item_index < 0) return sequence;
  }
  return nullptr;
}

// Its draft-worker keeps what it has.
void Machine::Preempt(Sequence* sequence) {
  ++counters_.preemptions;
  Bind(sequence, sequence->verifier->hello.numerics_id);
  LeaveVerifier(sequence, /*tell=*/true);
  Enqueue(sequence);
}

}  // namespace mirrorsd::scheduler
