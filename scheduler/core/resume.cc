// Requests that lost their place at a verifier: held for another one, bound to its numerics, and started
// there again from their committed tokens. What was committed stays; the draft keeps its own sequence.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

constexpr int kMaxLosses = 5;   // without a token in between
constexpr int kMaxRetries = 6;  // likewise
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);  // doubled each time

// At most 200 bytes, and never half a character: what is not UTF-8 could not be sent on.
std::string Shorten(const std::string& text) {
  constexpr size_t kMaxBytes = 200;
  if (text.size() <= kMaxBytes) return text;
  size_t size = kMaxBytes;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace

// What was computed under one numerics_id goes on under the same. Without output there is nothing that
// another one could contradict.
void Machine::Bind(Sequence* sequence, const std::string& numerics_id) {
  const bool bound = sequence->num_output_tokens() > 0 && !config_.allow_other_numerics;
  sequence->numerics_id = bound ? numerics_id : "";
  deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.verifier_loss_timeout);
}

// Its verifier is gone. A request whose verifiers go again and again before it gets a token may be what
// brings them down, and may not take the others with it for ever.
void Machine::HoldForVerifier(Sequence* sequence) {
  Bind(sequence, sequence->verifier->hello.numerics_id);
  LeaveVerifier(sequence, /*tell=*/false);
  Enqueue(sequence);
  if (++sequence->num_losses > kMaxLosses) {
    Fail(sequence, MakeError(absl::StatusCode::kUnavailable,
                             absl::StrCat("verifiers were lost ", sequence->num_losses,
                                          " times in a row while they worked on it"),
                             {.reason = "VERIFIER_LOST_REPEATEDLY"}));
  }
}

// One sequence of a round failed; the others did not.
void Machine::HandleItemError(Sequence* sequence, const WorkerError& error) {
  const bool short_of_kv = error.reason == "KV_EXHAUSTED";
  if (!short_of_kv && error.reason != "UNKNOWN_SEQUENCE" && error.reason != "TOO_MANY_ROWS") {
    return Fail(sequence, MakeError(absl::StatusCode::kInternal,
                                    absl::StrCat("the verifier failed: ", Shorten(error.message)),
                                    {.reason = Shorten(error.reason)}));
  }
  if (sequence->num_retries == kMaxRetries) {
    return Fail(sequence, short_of_kv ? mirrorsd::Overloaded("KV_EXHAUSTED",
                                                             "the verifier ran out of KV blocks")
                                      : Unavailable(Shorten(error.reason), Shorten(error.message)));
  }
  if (short_of_kv) ++counters_.kv_retries;
  StartAgainLater(sequence);
}

void Machine::StartAgainLater(Sequence* sequence) {
  Bind(sequence, sequence->verifier->hello.numerics_id);
  LeaveVerifier(sequence, /*tell=*/true);
  const absl::Duration pause = kFirstPause * (1 << sequence->num_retries++);
  deadlines_.Set(Wait::kRetryVerifier, sequence->ordinal, now_ + pause);
}

bool Machine::HasVerifier(const Sequence& sequence, const Worker* other_than) const {
  return std::any_of(verifiers_.begin(), verifiers_.end(), [&](const Worker* verifier) {
    return verifier != other_than && MayServe(*verifier, sequence);
  });
}

// `leaving` goes, or takes nothing new: for those who waited for room there, and can wait nowhere else,
// the time without a verifier begins.
void Machine::CountAbsence(const Worker& leaving) {
  for (const auto& [numerics_id, line] : waiting_) {
    for (const auto& [key, sequence] : line) {
      if (!sequence->was_placed) break;  // the others of the line neither
      if (!MayServe(leaving, *sequence) || HasVerifier(*sequence, &leaving)) continue;
      deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.verifier_loss_timeout);
    }
  }
}

// Whoever had a place waits without limit for room at a verifier that lives, since those before it make
// progress there; a limit has only the time without one.
void Machine::HandleVerifierWaitOver(Sequence* sequence) {
  if (sequence->was_placed && HasVerifier(*sequence, nullptr)) {
    deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.verifier_loss_timeout);
    return;
  }
  if (sequence->was_placed) {
    return Fail(sequence, Unavailable("VERIFIER_LOST",
                                      "the verifier was lost and no equal one came in time"));
  }
  const absl::Status status =
      mirrorsd::Overloaded("QUEUE_TIMEOUT", "no verifier had room in time",
                           absl::FormatDuration(config_.queue_timeout));
  Reject(sequence->stream, RejectReason::kQueueTimeout, status);
  Remove(sequence);
}

}  // namespace mirrorsd::scheduler
