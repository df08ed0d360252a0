// The simulator against the law: exact virtual time, so nothing here is timed.

#include "tools/simulate/simulation.h"

#include "gtest/gtest.h"
#include "scheduler/policy/latency_law.h"
#include "workers/pacing/profile_file.h"

namespace mirrorsd::simulate {
namespace {

using scheduler::RoundPhases;

constexpr int64_t kUs = 1000;

absl::Duration Seconds(double s) { return absl::Seconds(s); }

// A device whose passes take the same whatever the rows and the context are.
pacing::DeviceProfile Device(int32_t layers, double layer_s, double head_s) {
  pacing::DeviceProfile profile;
  profile.name = "flat";
  profile.num_layers = layers;
  profile.pass_s = 0.0002;
  profile.layer = pacing::RowTable({{1, layer_s}});
  profile.head = profile.exit_head = pacing::RowTable({{1, head_s}});
  return profile;
}

WorkerSpec Spec(const char* name, pacing::DeviceProfile profile) {
  WorkerSpec spec;
  spec.name = name;
  spec.profile = std::move(profile);
  spec.limits = {.max_sequences = 256, .max_rows = 4096, .max_window = 16};
  spec.kv_tokens = 10'000'000;
  spec.host_ns = 40 * kUs;
  spec.one_way_ns = 50 * kUs;
  spec.exit_layer = spec.profile.num_layers / 2;
  spec.chunk_tokens = 256;
  return spec;
}

// A target of 20 ms and a draft of 1.5 ms a depth.
Settings TwoDevices(SpeculationMode mode, double acceptance) {
  Settings settings;
  settings.mode = mode;
  settings.verifier = Spec("v", Device(40, 0.0005, 0.0003));
  settings.draft = Spec("d", Device(10, 0.0001, 0.0003));
  TextKind kind;
  kind.acceptance = {acceptance};
  kind.own_rank = RecallCurve({{1, 0.5}, {4, 0.8}});
  kind.exit_given_reject = RecallCurve({{1, 0.5}, {4, 0.8}});
  kind.exit_all = RecallCurve({{1, 0.7}, {4, 0.9}});
  settings.kinds = {kind};
  settings.workload.requests = 8;
  settings.workload.prompt.low = 20;
  settings.workload.output.low = 500;
  return settings;
}

// What the law makes of the devices themselves: nothing here was measured by the simulator.
RoundPhases PhasesOf(const Settings& settings) {
  const pacing::DeviceProfile& target = settings.verifier.profile;
  const absl::Duration half_host = absl::Nanoseconds(settings.verifier.host_ns / 2);
  RoundPhases phases;
  phases.prefix = half_host + Seconds(target.BeginSeconds(1) + target.LayersSeconds(1, 0) / 2);
  phases.exit_head = Seconds(target.HeadSeconds(1, false));
  phases.suffix = half_host + Seconds(target.LayersSeconds(1, 0) / 2 + target.HeadSeconds(1, true));
  phases.done = absl::Nanoseconds(2 * settings.verifier.one_way_ns);
  return phases;
}

absl::Duration DepthOf(const Settings& settings) {
  return absl::Nanoseconds(settings.draft.host_ns) + Seconds(settings.draft.profile.PassSeconds(1, 1, 0));
}

double Ms(absl::Duration time) { return absl::ToDoubleMilliseconds(time); }

TEST(Simulation, PlainDecodingKeepsTheLaw) {
  const Settings settings = TwoDevices(SpeculationMode::kOff, 0.7);
  const Figures figures = Simulate(settings);
  EXPECT_EQ(figures.requests, 8);
  EXPECT_EQ(figures.output_tokens, 8 * 500);
  const double law_ms = Ms(scheduler::PlainRound(PhasesOf(settings)));
  EXPECT_NEAR(figures.round_ms, law_ms, 0.001 * law_ms);
  EXPECT_NEAR(figures.token_ms.Quantile(0.5), law_ms, 0.001 * law_ms);
  EXPECT_NEAR(figures.request_tokens_per_second, 1000 / law_ms, 0.01 * 1000 / law_ms);
  EXPECT_EQ(figures.TokensPerRound(), 1);
  EXPECT_EQ(figures.draft_busy, 0);
}

TEST(Simulation, SerialSpeculationKeepsTheLaw) {
  for (const int32_t window : {1, 4, 8}) {
    Settings settings = TwoDevices(SpeculationMode::kSerial, 0.7);
    settings.num_speculative_tokens = window;
    const Figures figures = Simulate(settings);
    RoundPhases phases = PhasesOf(settings);
    phases.relay = absl::Nanoseconds(2 * settings.draft.one_way_ns);
    phases.used_depth = window * DepthOf(settings);
    const double law_ms = Ms(scheduler::SerialRound(phases));
    // The first round and the last ones of a request have no or a shorter window.
    EXPECT_NEAR(figures.round_ms, law_ms, 0.02 * law_ms) << window;
    const double tokens = scheduler::ExpectedTokens(0.7, window);
    EXPECT_NEAR(figures.TokensPerRound(), tokens, 0.03 * tokens) << window;
    const double speed = scheduler::Speed(tokens, scheduler::SerialRound(phases));
    EXPECT_NEAR(figures.request_tokens_per_second, speed, 0.05 * speed) << window;
  }
}

// Without a hold nothing waits for the draft: a round is the pass, whatever is hit.
TEST(Simulation, MirrorKeepsTheLaw) {
  for (const double acceptance : {0.3, 0.6, 0.9}) {
    Settings settings = TwoDevices(SpeculationMode::kMirror, acceptance);
    const Figures figures = Simulate(settings);
    EXPECT_EQ(figures.output_tokens, 8 * 500);
    RoundPhases phases = PhasesOf(settings);
    phases.relay = figures.phases.relay;
    phases.p1_residual = figures.phases.p1_residual;
    const int32_t depth =
        scheduler::FreeDepth(phases, DepthOf(settings), settings.num_speculative_tokens);
    phases.used_depth = depth * DepthOf(settings);
    const double law_ms = Ms(scheduler::MirrorRound(phases));
    EXPECT_NEAR(figures.round_ms, law_ms, 0.01 * law_ms) << acceptance;
    // A report and a command: two ways.
    EXPECT_EQ(figures.phases.relay,
              absl::Nanoseconds(settings.verifier.one_way_ns + settings.draft.one_way_ns));
    const double speed = 1000 * figures.TokensPerRound() / law_ms;
    EXPECT_NEAR(figures.request_tokens_per_second, speed, 0.02 * speed) << acceptance;
    EXPECT_GT(figures.HitRate(), 0.5) << acceptance;
    EXPECT_GE(figures.HitDepth(), depth) << acceptance;
  }
}

// A window as long as a hit's depth allows, none after a miss: what the shares of both make of the tokens.
TEST(Simulation, TokensOfMirrorRoundsFollowTheShareOfWindows) {
  Settings settings = TwoDevices(SpeculationMode::kMirror, 0.8);
  settings.num_speculative_tokens = 2;  // shallower than the draft gets
  settings.workload.requests = 16;
  const Figures figures = Simulate(settings);
  EXPECT_NEAR(figures.window_share, figures.HitRate(), 0.01);
  const double share = figures.window_share;
  const double tokens = share * scheduler::ExpectedTokens(0.8, 2) + (1 - share);
  EXPECT_NEAR(figures.TokensPerRound(), tokens, 0.03 * tokens);
}

// A draft that predicts during the whole pass, and a serial one after a miss: what SSD's theorem is about.
TEST(Simulation, HoldingForMissesFollowsSsdsTheorem) {
  for (const double acceptance : {0.5, 0.8}) {
    Settings settings = TwoDevices(SpeculationMode::kMirror, acceptance);
    settings.miss_fallback = MissFallback::kHold;
    settings.num_speculative_tokens = 3;
    settings.workload.requests = 16;
    const Figures figures = Simulate(settings);
    RoundPhases phases = PhasesOf(settings);
    const absl::Duration pass = scheduler::MirrorRound(phases);
    phases.relay = absl::Nanoseconds(2 * settings.draft.one_way_ns);
    scheduler::SsdRound ssd;
    ssd.hit_rate = figures.HitRate();
    ssd.tokens_hit = ssd.tokens_miss = scheduler::ExpectedTokens(acceptance, 3);
    ssd.primary = 0.9;  // it hides: any time up to the pass's is the same
    ssd.backup = (figures.round_ms - Ms(pass)) / Ms(pass) / (1 - ssd.hit_rate);
    // The hold is a depth under way and a serial draft.
    const double serial_ms = Ms(phases.relay + 4 * DepthOf(settings));
    EXPECT_NEAR(ssd.backup * Ms(pass), serial_ms, Ms(DepthOf(settings))) << acceptance;
    const double speed = scheduler::SsdSpeedup(ssd) / absl::ToDoubleSeconds(pass);
    EXPECT_NEAR(figures.request_tokens_per_second, speed, 0.04 * speed) << acceptance;
  }
}

// Waits end although their deadlines are no whole nanoseconds: windows that come too late are not waited for.
TEST(Simulation, FarWorkersAreNotWaitedForForEver) {
  Settings settings = TwoDevices(SpeculationMode::kSerial, 0.7);
  settings.verifier.one_way_ns = settings.draft.one_way_ns = 50'000 * kUs;
  settings.num_speculative_tokens = 3;
  settings.workload.requests = 3;
  settings.workload.output.low = 60;
  EXPECT_EQ(Simulate(settings).output_tokens, 3 * 60);
}

// A draft that always has branches to roll out must not leave prompts behind for ever.
TEST(Simulation, CatchingUpHasItsTurn) {
  Settings settings = TwoDevices(SpeculationMode::kMirror, 0.8);
  const auto target = pacing::LoadDeviceProfile("8xh100-llama-3.3-70b");
  const auto draft = pacing::LoadDeviceProfile("h100-llama-3.2-1b");
  ASSERT_TRUE(target.ok() && draft.ok());
  settings.verifier.profile = *target;
  settings.verifier.exit_layer = target->num_layers / 2;
  settings.draft.profile = *draft;
  settings.workload.concurrency = 32;
  settings.workload.requests = 64;
  settings.workload.prompt.low = 128;
  settings.workload.output.low = 100;
  settings.branch_budget = 256;
  settings.draft.catch_up_every = 4;
  const Figures figures = Simulate(settings);
  EXPECT_EQ(figures.output_tokens, 64 * 100);
  EXPECT_GT(figures.HitRate(), 0.8);
  settings.draft.catch_up_every = 0;
  EXPECT_LT(Simulate(settings).HitRate(), 0.6);
}

// The ordering of Table 1 of arXiv 2510.13161, at acceptances that make serial speculation as fast as there.
TEST(Simulation, PlainThenSerialThenMirror) {
  for (const double acceptance : {0.91, 0.97}) {
    double speeds[3];
    int i = 0;
    for (const SpeculationMode mode :
         {SpeculationMode::kOff, SpeculationMode::kSerial, SpeculationMode::kMirror}) {
      Settings settings = TwoDevices(mode, acceptance);
      const auto target = pacing::LoadDeviceProfile("mirror-sd-target-qwen3-14b");
      const auto draft = pacing::LoadDeviceProfile("mirror-sd-draft-qwen3-0.6b");
      ASSERT_TRUE(target.ok() && draft.ok());
      settings.verifier.profile = *target;
      settings.verifier.exit_layer = target->num_layers / 2;
      settings.draft.profile = *draft;
      settings.num_speculative_tokens = 7;
      settings.branch_top_k = 8;
      speeds[i++] = Simulate(settings).request_tokens_per_second;
    }
    EXPECT_GT(speeds[1], 1.5 * speeds[0]) << acceptance;
    EXPECT_GT(speeds[2], 1.2 * speeds[1]) << acceptance;
  }
}

TEST(Simulation, OneSeedIsOneLife) {
  Settings settings = TwoDevices(SpeculationMode::kSerial, 0.6);
  settings.verifier.profile.jitter.sigma = 0.05;
  settings.workload.kind = Workload::Kind::kRate;
  settings.workload.rate = 3;
  settings.workload.requests = 40;
  const Figures once = Simulate(settings);
  const Figures again = Simulate(settings);
  EXPECT_EQ(once.virtual_s, again.virtual_s);
  EXPECT_EQ(once.core_steps, again.core_steps);
  EXPECT_EQ(once.stats.accepted_tokens, again.stats.accepted_tokens);
  settings.seed = 2;
  EXPECT_NE(Simulate(settings).virtual_s, once.virtual_s);
}

// A draft that always agrees leaves only full windows; one that never does is never accepted.
TEST(Simulation, TheEndsOfAcceptance) {
  const Figures always = Simulate(TwoDevices(SpeculationMode::kSerial, 1));
  EXPECT_EQ(always.AcceptanceRate(), 1);
  const Figures never = Simulate(TwoDevices(SpeculationMode::kSerial, 0));
  EXPECT_EQ(never.stats.accepted_tokens, 0);
  EXPECT_EQ(never.output_tokens, always.output_tokens);
}

// Every mode yields the same streams' lengths, whoever serves them.
TEST(Simulation, ManyWorkersServeManyRequests) {
  Settings settings = TwoDevices(SpeculationMode::kSerial, 0.7);
  settings.num_verifiers = 4;
  settings.num_drafts = 8;
  settings.workload.concurrency = 32;
  settings.workload.requests = 128;
  settings.workload.output.low = 60;
  const Figures figures = Simulate(settings);
  EXPECT_EQ(figures.requests, 128);
  EXPECT_EQ(figures.output_tokens, 128 * 60);
  EXPECT_GT(figures.sequences_per_round, 6);
  EXPECT_GT(figures.draft_busy, 0);
  EXPECT_EQ(figures.counters.stale_reports, 0);
}

}  // namespace
}  // namespace mirrorsd::simulate
