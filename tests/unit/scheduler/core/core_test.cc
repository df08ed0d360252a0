// What the scheduler process relies on beyond the stories of tests/scenarios: time, health, measurements,
// limits, and what a report may look like.

#include "scheduler/core/core.h"

#include <map>
#include <string>

#include "common/error.h"
#include "tests/unit/scheduler/core/core_fixture.h"

namespace mirrorsd::scheduler {
namespace {

class CoreTest : public CoreFixture {};

TEST_F(CoreTest, AnIdleCoreHasNoDeadline) {
  EXPECT_EQ(core_->NextDeadline(), absl::InfiniteFuture());
  core_->CheckInvariants();
}

TEST_F(CoreTest, TimeThatRunsBackwardsIsTakenAsStandingStill) {
  now_ += absl::Seconds(10);
  AttachVerifier();
  const absl::Time deadline = core_->NextDeadline();
  now_ -= absl::Seconds(8);
  Report(1, Heartbeat{0, 0, {256, 256, 0}});
  EXPECT_EQ(core_->NextDeadline(), deadline);
  Tick(absl::Seconds(1));
  EXPECT_TRUE(Actions<CloseWorker>().empty());
}

TEST_F(CoreTest, IsReadyOnlyWithAVerifierThatTakesNewSequences) {
  EXPECT_FALSE(core_->Health(now_).ready());
  AttachDraft();
  EXPECT_FALSE(core_->Health(now_).ready());
  const ConnectionId verifier = AttachVerifier();
  EXPECT_TRUE(core_->Health(now_).ready());
  Report(verifier, Drain{});
  EXPECT_FALSE(core_->Health(now_).ready());
}

TEST_F(CoreTest, IsNotReadyWhileRoundsStallAndIsAgainWithTheNextOne) {
  const ConnectionId verifier = AttachVerifier();
  SubmitRequest request = MakeRequest("r");
  request.speculation = SpeculationMode::kOff;
  Submit(request);
  Report(verifier, SequenceStarted{1, 0});
  for (int i = 0; i < 9; ++i) {
    Tick(absl::Seconds(1));
    Report(verifier, Heartbeat{0, 0, {256, 256, 0}});
    EXPECT_TRUE(core_->Health(now_).ready()) << i;
  }
  EXPECT_FALSE(core_->Health(now_ + absl::Milliseconds(1100)).ready());
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  EXPECT_TRUE(core_->Health(now_ + absl::Milliseconds(1100)).ready());
}

TEST_F(CoreTest, ARoundThatIsKnownToTakeLongIsNoStall) {
  Hello hello = MakeHello(WorkerRole::kVerifier, "v");
  hello.step_times = {0, 10'000'000'000};  // ten seconds a row
  const ConnectionId verifier = Attach(hello);
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  EXPECT_TRUE(core_->Health(now_ + absl::Seconds(50)).ready());
  EXPECT_FALSE(core_->Health(now_ + absl::Seconds(61)).ready());
}

TEST_F(CoreTest, ARequestThatBringsVerifiersDownIsGivenUp) {
  int losses = 0;
  AttachVerifier();
  Submit(MakeRequest("r"));
  while (Actions<FailRequest>().empty() && losses < 100) {
    Step(WorkerDetached{last_connection_, "crashed"});
    ++losses;
    if (Actions<FailRequest>().empty()) AttachVerifier();
  }
  EXPECT_EQ(losses, 6);
  const auto info = GetErrorInfo(Actions<FailRequest>()[0].status);
  EXPECT_EQ(info.value_or(ErrorInfo{}).reason, "VERIFIER_LOST_REPEATEDLY");
  EXPECT_FALSE(info.value_or(ErrorInfo{}).retryable);
}

TEST_F(CoreTest, AnIdleCellIsReadyForEver) {
  AttachVerifier();
  EXPECT_TRUE(core_->Health(now_ + absl::Hours(10)).ready());
}

TEST_F(CoreTest, ItemsOfARoundMayComeInAnyOrder) {
  const ConnectionId verifier = AttachVerifier();
  for (int i = 1; i <= 3; ++i) Submit(MakeRequest("r" + std::to_string(i)));
  for (SequenceId id = 1; id <= 3; ++id) Report(verifier, SequenceStarted{id, 0});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  ASSERT_EQ(Commands<StartVerify>().at(0).items.size(), 3u);
  for (const SequenceId id : {3, 1, 2}) {
    Verified(verifier, 2, id, id == 1 ? 4 : 3, 0, 8);
    ASSERT_EQ(Actions<CommitTokens>().size(), 1u) << id;
    EXPECT_EQ(Actions<CommitTokens>()[0].stream, 1000 + id);
  }
  RoundDone(verifier, 2);
  EXPECT_EQ(Commands<StartVerify>().size(), 1u);
}

TEST_F(CoreTest, AVerifierTakesNoMoreSequencesThanItsOwnLimitAndOurs) {
  CoreConfig config = Config();
  config.max_num_seqs = 3;
  Make(config);
  Hello hello = MakeHello(WorkerRole::kVerifier, "v");
  hello.limits.max_sequences = 2;
  Attach(hello);
  int placed = 0;
  for (int i = 0; i < 6; ++i) {
    Submit(MakeRequest("r" + std::to_string(i)));
    placed += static_cast<int>(Commands<StartSequence>().size());
  }
  EXPECT_EQ(placed, 2);
  AttachVerifier("w");
  EXPECT_EQ(Commands<StartSequence>().size(), 3u);
  EXPECT_EQ(core_->Gauges().num_requests_running, 5);
  EXPECT_EQ(core_->Gauges().num_requests_waiting, 1);
}

TEST_F(CoreTest, TheWaitForADraftHasACap) {
  CoreConfig config = Config();
  config.max_draft_wait = absl::Milliseconds(70);
  Make(config);
  const ConnectionId verifier = AttachVerifier();
  Hello hello = MakeHello(WorkerRole::kDraft, "d");
  hello.step_times.base_ns = 1000000000;  // a second a token
  const ConnectionId draft = Attach(hello);
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  Report(draft, SequenceState{2, DraftSequenceState::kReady, 3, {}});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  EXPECT_EQ(Commands<StartRollout>().size(), 1u);
  EXPECT_EQ(core_->NextDeadline(), now_ + absl::Milliseconds(70));
  Tick(absl::Milliseconds(70));
  EXPECT_EQ(Commands<StartVerify>().size(), 1u);
}

TEST_F(CoreTest, ADraftThatIsCatchingUpIsNotWaitedFor) {
  const ConnectionId verifier = AttachVerifier();
  const ConnectionId draft = AttachDraft();
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  Report(draft, SequenceState{2, DraftSequenceState::kCatchingUp, 1, {}});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  EXPECT_TRUE(Commands<StartRollout>().empty());
  EXPECT_EQ(Commands<StartVerify>().size(), 1u);
}

TEST_F(CoreTest, ADraftThatBeatsButNeverCatchesUpIsSeenAsDegraded) {
  AttachVerifier();
  const ConnectionId draft = AttachDraft();
  const auto beat = [&](int64_t num_rounds_done) {
    now_ += absl::Seconds(4);
    Report(1, Heartbeat{0, 0, {256, 256, 0}});
    Report(draft, Heartbeat{0, num_rounds_done, {256, 256, 0}});
    return core_->Gauges().degraded[static_cast<int>(DegradedReason::kDraftLate)];
  };
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(beat(5)) << "it has nothing to do";
  Submit(MakeRequest("r"));
  Report(1, SequenceStarted{1, 0});
  EXPECT_FALSE(beat(6));
  EXPECT_FALSE(beat(7)) << "it computes";
  EXPECT_FALSE(beat(7));
  EXPECT_FALSE(beat(7));
  EXPECT_TRUE(beat(7));
}

TEST_F(CoreTest, AWindowLongerThanTheWorkersAllowIsCut) {
  Hello hello = MakeHello(WorkerRole::kVerifier, "v");
  hello.limits.max_window = 5;
  const ConnectionId verifier = Attach(hello);
  hello = MakeHello(WorkerRole::kDraft, "d");
  hello.limits.max_window = 3;
  const ConnectionId draft = Attach(hello);
  SubmitRequest request = MakeRequest("r");
  request.num_speculative_tokens = 12;
  Submit(request);
  Report(verifier, SequenceStarted{1, 0});
  Report(draft, SequenceState{2, DraftSequenceState::kReady, 3, {}});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  ASSERT_EQ(Commands<StartRollout>().size(), 1u);
  EXPECT_EQ(Commands<StartRollout>()[0].depth, 3);
}

TEST_F(CoreTest, ResumesOnOtherNumericsOnlyWhereTheOperatorAllowsIt) {
  for (const bool allowed : {false, true}) {
    CoreConfig config = Config();
    config.allow_other_numerics = allowed;
    Make(config);
    last_connection_ = 0;
    const ConnectionId verifier = AttachVerifier("v");
    Submit(MakeRequest("r"));
    Report(verifier, SequenceStarted{1, 0});
    Verified(verifier, 1, 1, 3, 0, 7);
    Step(WorkerDetached{verifier, "gone"});
    Hello hello = MakeHello(WorkerRole::kVerifier, "w");
    hello.numerics_id = "other";
    Attach(hello);
    EXPECT_EQ(Commands<StartSequence>().size(), allowed ? 1u : 0u);
  }
}

TEST_F(CoreTest, MeasuresWhatARequestWaitedFor) {
  const ConnectionId verifier = AttachVerifier();
  Submit(MakeRequest("r", 2));
  now_ += absl::Milliseconds(1);
  Report(verifier, SequenceStarted{1, 0});
  now_ += absl::Milliseconds(9);
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  now_ += absl::Milliseconds(20);
  Verified(verifier, 2, 1, 4, 0, 8);
  RoundDone(verifier, 2);
  std::map<ObservationKind, absl::Duration> seen;
  for (const Observation& observation : core_->TakeObservations()) {
    seen[observation.kind] = observation.value;
  }
  EXPECT_EQ(seen.at(ObservationKind::kQueueTime), absl::ZeroDuration());
  EXPECT_EQ(seen.at(ObservationKind::kTimeToFirstToken), absl::Milliseconds(10));
  EXPECT_EQ(seen.at(ObservationKind::kInterToken), absl::Milliseconds(20));
  EXPECT_EQ(seen.at(ObservationKind::kTimePerOutputToken), absl::Milliseconds(20));
  EXPECT_EQ(seen.at(ObservationKind::kEndToEnd), absl::Milliseconds(30));
  EXPECT_EQ(seen.at(ObservationKind::kRound), absl::Milliseconds(20));
  EXPECT_TRUE(core_->TakeObservations().empty());
}

TEST_F(CoreTest, MeasurementsThatNobodyTakesAreBounded) {
  const ConnectionId verifier = AttachVerifier();
  SubmitRequest request = MakeRequest("r", 200);
  int64_t rounds = 0;
  while (core_->counters().observations_dropped == 0 && rounds < 100000) {
    request.request_id = "r" + std::to_string(rounds);
    Submit(request);
    const SequenceId id = Commands<StartSequence>().at(0).sequence_id;
    Report(verifier, SequenceStarted{id, 0});
    while (Commands<StartVerify>().size() == 1 && Actions<CommitTokens>().empty()) {
      const StartVerify round = Commands<StartVerify>()[0];
      const VerifyItem item = round.items[0];
      Verified(verifier, round.round_id, id, item.is_prefill ? item.end : item.committed_length, 0,
               9);
      RoundDone(verifier, round.round_id);
      ++rounds;
    }
    Report(verifier, SequenceEnded{id, {256, 256, 0}});
  }
  EXPECT_GT(core_->counters().observations_dropped, 0);
  EXPECT_EQ(core_->TakeObservations().size(), 65536u);
}

TEST_F(CoreTest, CountsWhatItDid) {
  const ConnectionId verifier = AttachVerifier();
  const ConnectionId draft = AttachDraft();
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 2});
  Report(draft, SequenceState{2, DraftSequenceState::kReady, 3, {}});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  RolloutProgress progress;
  progress.sequence_id = 2;
  progress.round_id = 1;
  progress.root_token = 7;
  progress.token_ids = {8, 9, 10, 11};
  progress.last = true;
  Report(draft, progress);
  Verified(verifier, 2, 1, 6, 2, 50);
  RoundDone(verifier, 2);
  const CoreCounters& counters = core_->counters();
  EXPECT_EQ(counters.rounds, 2);
  EXPECT_EQ(counters.prompt_tokens, 3);
  EXPECT_EQ(counters.tokens_generated, 4);
  EXPECT_EQ(counters.prefix_cache_queries, 3);
  EXPECT_EQ(counters.prefix_cache_hits, 2);
  EXPECT_EQ(counters.num_drafts, 1);
  EXPECT_EQ(counters.draft_tokens, 4);
  EXPECT_EQ(counters.accepted_tokens, 2);
  EXPECT_EQ(counters.accepted_per_position, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(counters.workers_attached, (std::array<int64_t, 2>{1, 1}));
}

TEST_F(CoreTest, HelloTwiceOnOneConnectionIsAFault) {
  const ConnectionId verifier = AttachVerifier();
  Step(WorkerAttached{verifier, MakeHello(WorkerRole::kVerifier, "v")});
  ASSERT_EQ(Actions<CloseWorker>().size(), 1u);
  EXPECT_EQ(core_->Gauges().workers_attached[0], 0);
  Step(WorkerDetached{verifier, "closed"});
  EXPECT_TRUE(actions_.empty());
}

TEST_F(CoreTest, EventsOfStreamsThatAreGoneAreNoOps) {
  Step(Cancelled{77});
  Step(WorkerDetached{77, "?"});
  Step(WorkerQueueFull{77});
  Report(77, Heartbeat{});
  EXPECT_TRUE(actions_.empty());
  EXPECT_EQ(core_->counters().stale_reports, 1);
}

TEST_F(CoreTest, ARequestIdMayComeAgainOnceItsRequestHasEnded) {
  AttachVerifier();
  const ConnectionId stream = Submit(MakeRequest("r"));
  Submit(MakeRequest("r"));
  ASSERT_EQ(Actions<FailRequest>().size(), 1u);
  EXPECT_EQ(Actions<FailRequest>()[0].status.code(), absl::StatusCode::kAlreadyExists);
  Step(Cancelled{stream});
  Submit(MakeRequest("r"));
  EXPECT_TRUE(Actions<FailRequest>().empty());
}

TEST_F(CoreTest, EveryFailureCarriesItsReason) {
  Submit(MakeRequest("r"));
  ASSERT_EQ(Actions<FailRequest>().size(), 1u);
  const auto info = GetErrorInfo(Actions<FailRequest>()[0].status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "NO_VERIFIER");
  EXPECT_TRUE(info->retryable);
}

TEST_F(CoreTest, ASecondModelIsLetInOnceNothingDependsOnTheFirst) {
  const ConnectionId verifier = AttachVerifier();
  Hello other = MakeHello(WorkerRole::kVerifier, "w");
  other.model_fingerprint = "another";
  Attach(other);
  EXPECT_EQ(Actions<RefuseWorker>().size(), 1u);
  Step(WorkerDetached{verifier, "redeployed"});
  Attach(other);
  EXPECT_EQ(Actions<WelcomeWorker>().size(), 1u);
}

TEST_F(CoreTest, AQueueOfNoneStillLetsInWhatHasAPlace) {
  CoreConfig config = Config();
  config.max_queued = 0;
  config.max_num_seqs = 1;
  Make(config);
  AttachVerifier();
  Submit(MakeRequest("r1"));
  EXPECT_EQ(Commands<StartSequence>().size(), 1u);
  Submit(MakeRequest("r2"));
  EXPECT_EQ(Actions<FailRequest>().size(), 1u);
}

TEST_F(CoreTest, NamesTheDraftsThatAreLate) {
  CoreConfig config = Config();
  config.max_missed_deadlines = 1;
  Make(config);
  const ConnectionId verifier = AttachVerifier();
  const ConnectionId late = AttachDraft("d1");
  AttachDraft("d2");
  EXPECT_TRUE(core_->LateDrafts().empty());
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  Report(late, SequenceState{2, DraftSequenceState::kReady, 3, {}});
  Verified(verifier, 1, 1, 3, 0, 7);
  RoundDone(verifier, 1);
  Tick(absl::Seconds(2));
  EXPECT_EQ(core_->LateDrafts(), std::vector<ConnectionId>{late});
  EXPECT_EQ(core_->Gauges().drafts_late, 1);
}

// Whatever a verifier tells of its own speed, its rounds have a limit, and its stalls are seen.
TEST_F(CoreTest, AVerifierThatClaimsToTakeForEverIsStillBounded) {
  Hello hello = MakeHello(WorkerRole::kVerifier, "v");
  hello.step_times = {INT64_MAX, INT64_MAX};
  const ConnectionId verifier = Attach(hello);
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  ASSERT_EQ(Commands<StartVerify>().size(), 1u);
  bool closed = false;
  for (int minute = 0; minute <= 100 && !closed; ++minute) {
    for (int i = 0; i < 20; ++i) {
      Tick(absl::Seconds(3));
      closed |= !Actions<CloseWorker>().empty();
      Report(verifier, Heartbeat{0, 0, {256, 256, 0}});
    }
    if (minute == 31) {
      EXPECT_TRUE(core_->Health(now_).stalled);
    }
  }
  EXPECT_TRUE(closed);
}

// The rows of a cohort are shared in a few steps, whatever windows were claimed and asked for.
TEST_F(CoreTest, HugeClaimsOfWindowsCostNoTime) {
  Hello hello = MakeHello(WorkerRole::kVerifier, "v");
  hello.context_length = INT32_MAX;
  hello.blocks = {int64_t{1} << 40, 0, 0};
  hello.limits = {64, INT32_MAX, INT32_MAX};
  const ConnectionId verifier = Attach(hello);
  hello.role = WorkerRole::kDraft;
  hello.name = "d";
  const ConnectionId draft = Attach(hello);
  constexpr int kRequests = 20;
  for (int i = 0; i < kRequests; ++i) {
    SubmitRequest request = MakeRequest("r" + std::to_string(i), INT32_MAX);
    request.num_speculative_tokens = INT32_MAX;
    Submit(request);
    Report(verifier, SequenceStarted{static_cast<SequenceId>(2 * i + 1), 0});
    Report(draft, SequenceState{static_cast<SequenceId>(2 * i + 2), DraftSequenceState::kReady, 3,
                                {}});
  }
  RoundId round = 1;
  while (Commands<StartRollout>().size() < kRequests && round < 5) {
    for (int i = 0; i < kRequests; ++i) {
      VerifyItemDone done;
      done.sequence_id = static_cast<SequenceId>(2 * i + 1);
      if (round == 1 && i > 0) continue;  // the first round has the first request alone
      done.kv_length = round == 2 && i == 0 ? 4 : 3;
      done.correction_token = 7;
      Report(verifier, VerifyItemReport{round, done});
    }
    RoundDone(verifier, round);
    if (round == 1) Tick(absl::Seconds(3));
    ++round;
  }
  const std::vector<StartRollout> rollouts = Commands<StartRollout>();
  ASSERT_EQ(rollouts.size(), static_cast<size_t>(kRequests));
  int64_t rows = 0;
  for (const StartRollout& rollout : rollouts) rows += rollout.depth + 1;
  EXPECT_LE(rows, INT32_MAX);
  EXPECT_GT(rows, int64_t{INT32_MAX} - 2 * kRequests);
}

TEST_F(CoreTest, AnErrorOfAWorkerIsCutBetweenCharacters) {
  const ConnectionId verifier = AttachVerifier();
  Submit(MakeRequest("r"));
  Report(verifier, SequenceStarted{1, 0});
  VerifyItemDone done;
  done.sequence_id = 1;
  done.error = WorkerError{std::string(199, 'x') + "\u00e9\u00e9", std::string(300, 'y')};
  Report(verifier, VerifyItemReport{1, done});
  ASSERT_EQ(Actions<FailRequest>().size(), 1u);
  const auto info = GetErrorInfo(Actions<FailRequest>()[0].status);
  EXPECT_EQ(info.value_or(ErrorInfo{}).reason, std::string(199, 'x'));
}

TEST_F(CoreTest, ADefaultWithoutAPolicyIsOurOwnBug) {
  CoreConfig config = Config();
  config.speculation = SpeculationMode::kAuto;
  EXPECT_DEATH(Core core(config), "no policy");
}

}  // namespace
}  // namespace mirrorsd::scheduler
