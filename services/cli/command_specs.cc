#include "common/check.h"
#include "services/cli/commands.h"

namespace mirrorsd::cli {
namespace {

constexpr config::CommandSpec kSpecs[] = {
    {.program = config::kServe,
     .command_line = "mirrorsd serve",
     .summary = "Serves a model by gRPC: all roles in this process, or each in its own.",
     .usage = "--model DIR [--draft-model DIR] [--separate-processes] [options]",
     .notes = "Examples:\n"
              "  mirrorsd serve --model models/demo-target --draft-model models/demo-draft\n"
              "  mirrorsd serve --config cell.yaml --separate-processes\n\n"
              "/readyz, /livez and /metrics are on the HTTP port; /metrics shows every role. SIGTERM\n"
              "drains: not ready at once, running requests finish, then exit 0."},
    {.program = config::kGenerate,
     .command_line = "mirrorsd generate",
     .summary = "Generates a continuation, here or at a running cell.",
     .usage = "(--model DIR [--draft-model DIR] | --server HOST:PORT)\n"
              "           (--prompt TEXT | --prompt-ids ID,ID,... | --chat FILE) [options]",
     .notes = "Examples:\n"
              "  mirrorsd generate --model DIR --prompt 'Once upon a time' --max-tokens 64\n"
              "  mirrorsd generate --server 127.0.0.1:50051 --prompt-ids 1,2,3 --output json\n\n"
              "The same model, prompt, parameters and seed give the same tokens, with any draft, window\n"
              "or batch. Ctrl-C cancels."},
    {.program = config::kLogits,
     .command_line = "mirrorsd logits",
     .summary = "Writes the logits of a prompt, final and at an early exit, as safetensors.",
     .usage = "--model DIR --prompt-ids ID,ID,... --early-exit-layer L --out FILE [options]"},
    {.program = config::kChat,
     .command_line = "mirrorsd chat",
     .summary = "Talks with a model line by line, from a terminal or a pipe.",
     .usage = "(--model DIR [--draft-model DIR] | --server HOST:PORT) [options]",
     .notes = "Lines: /reset forgets the conversation, /exit or end of input ends it. Ctrl-C stops an\n"
              "answer; while nothing is being answered, it ends the program."},
    {.program = config::kDoctor,
     .command_line = "mirrorsd doctor",
     .summary = "Says what this machine has, which models load, and what is wrong with those that do not.",
     .usage = "[--model DIR] [--draft-model DIR] [DIR ...]",
     .notes = "Without a folder it looks at those under models/. Exit code 3 if a folder that was named\n"
              "cannot be served.",
     .positional = "folders"},
    {.program = config::kMakeTwin,
     .command_line = "mirrorsd make-twin",
     .summary = "Makes a synthetic target and its draft of any shape, for measuring.",
     .usage = "--shape SHAPE [--out DIR] [--draft-out DIR] [--gguf FILE] [--twin-json FILE] [options]",
     .notes = "Shapes: micro, small, 0.5b, 1.5b, llama-3.1-8b, llama-3.3-70b, qwen3-14b, qwen3-32b, opt-66b.\n\n"
              "Examples:\n"
              "  mirrorsd make-twin --shape small --agreement 0.7 --exit-recall 0.85 --twin-json a.json\n"
              "  mirrorsd generate --load-format twin:a.json --prompt Hello --max-tokens 32\n"
              "  mirrorsd make-twin --shape 0.5b --draft-damping 0.1 --exit-damping 0.1 \\\n"
              "      --out target --draft-out draft\n\n"
              "Weights are noise from the seed: the same bits everywhere, text without meaning. The draft is the\n"
              "target's first layers. With --agreement, factors that scale the layers above the draft's and\n"
              "above the exit are searched for by measuring; what came of it is told on other prompts than\n"
              "it was found on, and written to twin.json. --load-format takes the same as one word:\n"
              "twin:SHAPE[,key=value...] with the keys draft-layers, exit-layer, draft-damping,\n"
              "exit-damping, logit-scale, seed, dtype."},
    {.program = config::kTrace,
     .command_line = "mirrorsd trace",
     .summary = "Draws what the workers did, round by round, from a scheduler's journal.",
     .usage = "--journal FILE [--out FILE] [--rounds FROM:TO] [--request ID]",
     .notes = "Examples:\n"
              "  mirrorsd serve --model DIR --draft-model DIR --journal life.journal\n"
              "  mirrorsd trace --journal life.journal --out life.json --rounds 100:200\n\n"
              "Prints a few rounds as a strip of letters, and writes all that were chosen as Chrome trace JSON, for\n"
              "https://ui.perfetto.dev or chrome://tracing: a process for each worker, a lane for each kind of\n"
              "work, arrows from an exit head over the rollout to the round that began with its tokens. The life\n"
              "is repeated for it; a ring of last events cannot be (mirrorsd-replay tells its stories). Workers\n"
              "tell how long a phase took: it is drawn to end when the worker's message came in."},
    {.program = config::kTune,
     .command_line = "mirrorsd tune",
     .summary = "Measures a pair of models and says which early exit and how many candidates to use.",
     .usage = "(--model DIR --draft-model DIR | --load-format twin:SHAPE) [options]",
     .notes = "Example:\n"
              "  mirrorsd tune --model models/demo-target --draft-model models/demo-draft --batches 1,4\n\n"
              "For every layer that the early exit may stand behind: what the layers before and after it and\n"
              "its head take on this machine, and how often the target's token is among the exit's K best,\n"
              "given the target's own text. From these, by the latency law, the length of a mirror round, its\n"
              "hits and tokens, and the flags of the layer and K that are predicted to be fastest, beside\n"
              "plain and serial decoding. Predictions: bench rounds measures. Both models are timed alone, one\n"
              "after the other, so a draft that shares the target's cores looks faster than it will be."},
    {.program = config::kBenchAgreement,
     .command_line = "mirrorsd bench agreement",
     .summary = "Measures how far a draft and an early exit go with the target, apart from any serving.",
     .usage = "(--model DIR --draft-model DIR | --load-format twin:SHAPE) [options]",
     .notes = "Example:\n"
              "  mirrorsd bench agreement --model models/demo-target --draft-model models/demo-draft \\\n"
              "      --temperatures 0,1 --json agreement.jsonl --svg plots\n\n"
              "Both models are given the target's own stream, greedy or sampled with the counter noise. Told\n"
              "by kind of prompt: how often the draft's token is the target's, the acceptance length that\n"
              "follows, how often the target's token is among the exit's K best, and the same for the rows\n"
              "that the draft missed. Above temperature 0 also what independent noise and the ratio test\n"
              "would accept. A twin without --prompts is given random tokens."},
    {.program = config::kBenchRounds,
     .command_line = "mirrorsd bench rounds",
     .summary = "Measures speculation against plain decoding, side by side at one cell.",
     .usage = "--model DIR --draft-model DIR [options] | --compare A --compare B",
     .notes = "Examples:\n"
              "  mirrorsd bench rounds --model models/demo-target --draft-model models/demo-draft \\\n"
              "      --windows 2,4,8 --temperatures 0,1 --json rounds.jsonl --svg plots\n"
              "  mirrorsd bench rounds --compare monday.jsonl --compare tuesday.jsonl\n\n"
              "Within each repeat every prompt is asked in every mode in a row, in random seeded order. Figures\n"
              "are medians over the repeats with 95 % intervals; speeds are paired by repeat. The tokens of\n"
              "every mode are compared with plain decoding's: a difference ends the run with exit code 1.\n"
              "So does a run void of meaning, whose paced devices could not keep their time. Ctrl-C ends\n"
              "early, with the figures of what was measured."},
    {.program = config::kBenchRecord,
     .command_line = "mirrorsd bench record",
     .summary = "Records what a target says to a benchmark's prompts, as a script for a draft.",
     .usage = "--model DIR --record FILE [options]",
     .notes = "Examples:\n"
              "  mirrorsd bench record --model models/demo-target --record said.jsonl\n"
              "  mirrorsd bench rounds --model models/demo-target --draft-model models/demo-draft \\\n"
              "      --draft-script said.jsonl --draft-script-agreement 0.8\n\n"
              "A request of the same prompt and sampling then meets a draft that agrees as often as was set:\n"
              "temperatures, seed and prompts must be those of the run that is to be measured."},
    {.program = config::kBenchEngine,
     .command_line = "mirrorsd bench engine",
     .summary = "Measures the steps of one model against what this machine can read and multiply.",
     .usage = "(--model DIR | --load-format twin:SHAPE) [--threads N] [options]",
     .notes = "Example:\n"
              "  mirrorsd bench engine --load-format twin:0.5b --threads 2 --rows 1,4,16 --json engine.jsonl\n\n"
              "Decode, verify steps of several rows, prefill, the head behind an early exit, a KV copy: every\n"
              "repeat runs each once, with the machine's read rate and multiply-adds measured between.\n"
              "Figures are medians with 95 % intervals; shares are of the best of the same run."},
    {.program = config::kGateway,
     .command_line = "mirrorsd-gateway",
     .summary = "The public gRPC API over a scheduler. Reads a model's text files, no weights.",
     .usage = "--model DIR --scheduler-address ADDRESS [options]"},
    {.program = config::kScheduler,
     .command_line = "mirrorsd-scheduler",
     .summary = "Batches requests over the workers that dial it.",
     .usage = "[--listen-address ADDRESS] [options]"},
    {.program = config::kVerifierWorker,
     .command_line = "mirrorsd-verifier-worker",
     .summary = "Runs the target model for a scheduler.",
     .usage = "--model DIR --scheduler-address ADDRESS [options]"},
    {.program = config::kDraftWorker,
     .command_line = "mirrorsd-draft-worker",
     .summary = "Runs the draft model for a scheduler.",
     .usage = "--draft-model DIR --scheduler-address ADDRESS [options]"},
};

}  // namespace

const config::CommandSpec& SpecOf(config::Program program) {
  for (const config::CommandSpec& spec : kSpecs) {
    if (spec.program == program) return spec;
  }
  CHECK(false) << "a program without a spec";
  return kSpecs[0];
}

}  // namespace mirrorsd::cli
