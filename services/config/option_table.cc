#include "services/config/options.h"

namespace mirrorsd::config {
namespace {

using enum OptionType;

constexpr uint32_t kInProcess = kServe | kGenerate | kChat;  // run every role themselves
constexpr uint32_t kAsking = kGenerate | kChat;
constexpr uint32_t kServing = kServe | kEveryRole;
constexpr uint32_t kWorkers = kVerifierWorker | kDraftWorker;

constexpr std::string_view kModel = "Model";
constexpr std::string_view kRequest = "Request";
constexpr std::string_view kSampling =
    "Sampling (unset: the model's generation_config.json, then the neutral value)";
constexpr std::string_view kSpeculation = "Speculation";
constexpr std::string_view kOutput = "Output";
constexpr std::string_view kListening = "Listening and dialling";
constexpr std::string_view kEngine = "Engine";
constexpr std::string_view kBatching = "Batching and limits";
constexpr std::string_view kLife = "Life of the process";

// clang-format off
constexpr OptionSpec kTable[] = {
    {.name = "model", .group = kModel, .metavar = "DIR",
     .programs = kInProcess | kLogits | kDoctor | kGateway | kVerifierWorker,
     .help = "target model: a Hugging Face folder (the gateway reads its text files only)"},
    {.name = "draft-model", .group = kModel, .metavar = "DIR",
     .programs = kInProcess | kDoctor | kDraftWorker,
     .help = "draft model of the same tokenizer; without one, rounds run with empty windows"},
    {.name = "served-model-name", .group = kModel, .metavar = "NAME",
     .programs = kServe | kGateway,
     .help = "name that the API shows (unset: the folder's last component)"},
    {.name = "folders", .group = kModel, .metavar = "DIR", .type = kTextList, .programs = kDoctor,
     .help = "further model folders to look at; also given as plain words"},

    {.name = "prompt", .group = kRequest, .metavar = "TEXT", .programs = kGenerate,
     .help = "prompt, encoded with the tokenizer's special tokens"},
    {.name = "prompt-ids", .group = kRequest, .metavar = "ID,ID,...",
     .programs = kGenerate | kLogits,
     .help = "prompt as token ids"},
    {.name = "chat", .group = kRequest, .metavar = "FILE", .programs = kGenerate,
     .help = "JSON file: a list of {\"role\", \"content\"} or {\"messages\": [...], \"tools\": "
             "[...]}"},
    {.name = "system", .group = kRequest, .metavar = "TEXT", .programs = kChat,
     .help = "system message at the front of the conversation"},
    {.name = "max-tokens", .group = kRequest, .metavar = "N", .type = kInteger,
     .programs = kAsking,
     .help = "tokens to generate, at least 1 (unset: what the context leaves)"},
    {.name = "min-tokens", .group = kRequest, .metavar = "N", .type = kInteger,
     .programs = kAsking,
     .help = "tokens before which no end token may come"},
    {.name = "ignore-eos", .group = kRequest, .type = kFlag, .programs = kAsking,
     .help = "go on past end-of-sequence tokens"},
    {.name = "stop", .group = kRequest, .metavar = "TEXT", .type = kTextList, .programs = kAsking,
     .help = "end before this string; may be repeated"},
    {.name = "request-id", .group = kRequest, .metavar = "ID", .programs = kGenerate,
     .help = "id of the request, at most 128 bytes (unset: made up)"},
    {.name = "server", .group = kRequest, .metavar = "HOST:PORT", .programs = kAsking,
     .help = "ask a running cell by gRPC instead of loading models here"},
    {.name = "request-timeout-s", .group = kRequest, .metavar = "S", .type = kNumber,
     .programs = kAsking,
     .help = "give up after this time (unset: never)", .min = 0.001, .max = 1e9},

    {.name = "temperature", .group = kSampling, .metavar = "X", .type = kNumber,
     .programs = kAsking,
     .help = "0 is greedy; 0 to 100"},
    {.name = "top-k", .group = kSampling, .metavar = "N", .type = kInteger, .programs = kAsking,
     .help = "keep the N best tokens; 0 or -1: off"},
    {.name = "top-p", .group = kSampling, .metavar = "X", .type = kNumber, .programs = kAsking,
     .help = "keep the smallest set with this probability; above 0, at most 1"},
    {.name = "min-p", .group = kSampling, .metavar = "X", .type = kNumber, .programs = kAsking,
     .help = "drop tokens below X times the best one's probability; 0 to 1"},
    {.name = "repetition-penalty", .group = kSampling, .metavar = "X", .type = kNumber,
     .programs = kAsking,
     .help = "of tokens in prompt and output; above 0, at most 100; 1: off"},
    {.name = "presence-penalty", .group = kSampling, .metavar = "X", .type = kNumber,
     .programs = kAsking,
     .help = "of tokens in the output; -2 to 2"},
    {.name = "frequency-penalty", .group = kSampling, .metavar = "X", .type = kNumber,
     .programs = kAsking,
     .help = "per occurrence in the output; -2 to 2"},
    {.name = "logit-bias", .group = kSampling, .metavar = "ID:X,...", .programs = kAsking,
     .help = "added to these tokens' logits; -100 to 100"},
    {.name = "seed", .group = kSampling, .metavar = "N", .programs = kAsking,
     .help = "key of the noise, 0 to 2^64-1 (unset: drawn, and told in the answer)"},

    {.name = "speculation", .group = kSpeculation, .metavar = "MODE",
     .programs = kInProcess | kScheduler,
     .help = "off or serial (unset: serial where there is a draft model); a request may "
             "override it",
     .choices = "off|serial", .later_choices = "two_cohorts|mirror|auto"},
    {.name = "num-speculative-tokens", .group = kSpeculation, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kScheduler,
     .help = "draft tokens that a round verifies, 0 to 64 (unset: 4); a request may override it",
     .min = 0, .max = 64},

    {.name = "output", .group = kOutput, .metavar = "FORM", .programs = kGenerate,
     .default_value = "text",
     .help = "text, as it comes, or json, at the end", .choices = "text|json"},
    {.name = "show-statistics", .group = kOutput, .type = kFlag, .programs = kGenerate,
     .help = "at the end, one line on standard error: tokens a second, rounds, acceptance length"},
    {.name = "early-exit-layer", .group = kOutput, .metavar = "L", .type = kInteger,
     .programs = kLogits,
     .help = "layer after which exit_logits are taken, 1 to all", .min = 1, .max = 1e6},
    {.name = "out", .group = kOutput, .metavar = "FILE", .programs = kLogits,
     .help = "safetensors file to write: logits and exit_logits, f32 [tokens, vocabulary]"},

    {.name = "host", .group = kListening, .metavar = "HOST", .programs = kServe | kGateway,
     .default_value = "127.0.0.1",
     .help = "address to listen on; 0.0.0.0 for all"},
    {.name = "grpc-port", .group = kListening, .metavar = "N", .type = kInteger,
     .programs = kServe | kGateway, .default_value = "50051",
     .help = "port of the public gRPC API; 0: any free one", .min = 0, .max = 65535},
    {.name = "http-port", .group = kListening, .metavar = "N", .type = kInteger,
     .programs = kServe | kGateway, .default_value = "8000",
     .help = "port of /readyz, /livez and /metrics; 0: any free one", .min = 0, .max = 65535,
     .alias = "port"},
    {.name = "http-address", .group = kListening, .metavar = "ADDRESS",
     .programs = kScheduler | kWorkers,
     .help = "HOST:PORT or unix:/path for /readyz, /livez and /metrics (unset: none)"},
    {.name = "listen-address", .group = kListening, .metavar = "ADDRESS", .programs = kScheduler,
     .default_value = "127.0.0.1:50052",
     .help = "HOST:PORT or unix:/path for gateways and workers"},
    {.name = "scheduler-address", .group = kListening, .metavar = "ADDRESS",
     .programs = kGateway | kWorkers, .default_value = "127.0.0.1:50052",
     .help = "where the scheduler listens"},
    {.name = "metrics-from", .group = kListening, .metavar = "ADDRESS", .type = kTextList,
     .programs = kGateway,
     .help = "show the /metrics of these processes, too; may be repeated"},
    {.name = "max-http-connections", .group = kListening, .metavar = "N", .type = kInteger,
     .programs = kServing, .default_value = "256",
     .help = "open HTTP connections; more are refused", .min = 1, .max = 100000},

    {.name = "backend", .group = kEngine, .metavar = "NAME",
     .programs = kInProcess | kLogits | kWorkers, .default_value = "cpu",
     .help = "where the arithmetic runs (mirrorsd doctor lists them)"},
    {.name = "threads", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kLogits | kVerifierWorker, .default_value = "0",
     .help = "threads of the target model; 0: one per core", .min = 0, .max = 1024},
    {.name = "draft-threads", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kDraftWorker, .default_value = "0",
     .help = "threads of the draft model; 0: one per core", .min = 0, .max = 1024},
    {.name = "max-model-len", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kWorkers, .default_value = "0",
     .help = "context length in tokens, prompt and output; 0: the model's own", .min = 0,
     .max = 1e8},
    {.name = "block-size", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kWorkers, .default_value = "16",
     .help = "tokens of one KV block; a multiple of 16", .min = 16, .max = 1024},
    {.name = "kv-cache-memory-bytes", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kVerifierWorker, .default_value = "536870912",
     .help = "memory of the target's KV cache", .min = 65536, .max = 1e15},
    {.name = "draft-kv-cache-memory-bytes", .group = kEngine, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kDraftWorker, .default_value = "268435456",
     .help = "memory of the draft's KV cache", .min = 65536, .max = 1e15},
    {.name = "no-prefix-caching", .group = kEngine, .type = kFlag,
     .programs = kInProcess | kVerifierWorker,
     .help = "compute every prompt anew"},

    {.name = "max-num-seqs", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kScheduler | kWorkers, .default_value = "256",
     .help = "sequences that run at a time", .min = 1, .max = 4096},
    {.name = "max-num-batched-tokens", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kWorkers, .default_value = "1024",
     .help = "rows of one pass of a model", .min = 16, .max = 65536},
    {.name = "max-prefill-tokens", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kInProcess | kScheduler, .default_value = "256",
     .help = "prompt tokens that one round prefills", .min = 1, .max = 65536},
    {.name = "max-num-queued", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kServe | kScheduler, .default_value = "1024",
     .help = "requests that wait; more are refused", .min = 0, .max = 1000000},
    {.name = "max-concurrent-requests", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kServe | kGateway, .default_value = "1024",
     .help = "requests that the gateway has open; more are refused", .min = 1, .max = 1000000},
    {.name = "max-stream-buffer-tokens", .group = kBatching, .metavar = "N", .type = kInteger,
     .programs = kServe | kGateway, .default_value = "4096",
     .help = "tokens that wait for a slow client before its stream alone is ended", .min = 1,
     .max = 1e9},
    {.name = "queue-timeout-s", .group = kBatching, .metavar = "S", .type = kNumber,
     .programs = kServe | kScheduler, .default_value = "60",
     .help = "longest wait for a place, then the request is refused", .min = 0.001, .max = 1e6},

    {.name = "separate-processes", .group = kLife, .type = kFlag, .programs = kServe,
     .help = "run the roles as child processes, restarted with backoff when they die"},
    {.name = "worker-name", .group = kLife, .metavar = "NAME", .programs = kWorkers,
     .help = "name of this worker in metrics and logs (unset: its role)"},
    {.name = "drain-timeout-s", .group = kLife, .metavar = "S", .type = kNumber,
     .programs = kServing, .default_value = "30",
     .help = "on SIGTERM: how long running requests may take to finish", .min = 0, .max = 1e6},
    {.name = "worker-timeout-s", .group = kLife, .metavar = "S", .type = kNumber,
     .programs = kServe | kScheduler, .default_value = "5",
     .help = "a worker that is silent for so long is lost", .min = 0.1, .max = 1e6},
    {.name = "verifier-loss-timeout-s", .group = kLife, .metavar = "S", .type = kNumber,
     .programs = kServe | kScheduler, .default_value = "30",
     .help = "how long requests wait for another verifier when theirs is lost", .min = 0,
     .max = 1e6},
    {.name = "allow-other-numerics", .group = kLife, .type = kFlag,
     .programs = kServe | kScheduler,
     .help = "resume on a verifier whose results may differ in bits"},
    {.name = "journal", .group = kLife, .metavar = "FILE", .programs = kServe | kScheduler,
     .help = "record the scheduler's life, prompts included, for mirrorsd-replay; where FILE exists, to "
             "FILE.1 and so on"},
    {.name = "journal-limit-mb", .group = kLife, .metavar = "N", .type = kInteger,
     .programs = kServe | kScheduler, .default_value = "1024",
     .help = "size at which the journal ends, while the scheduler goes on", .min = 1, .max = 1e9},
    {.name = "journal-ring-dir", .group = kLife, .metavar = "DIR", .programs = kServe | kScheduler,
     .help = "where the last events are written when a CHECK fails or on SIGUSR1 (unset: TMPDIR, or "
             "/tmp)"},
    {.name = "log-level", .group = kLife, .metavar = "LEVEL", .programs = kEveryProgram,
     .help = "debug, info, warning, error or off (unset: info for servers, else error)",
     .choices = "debug|info|warning|error|off"},
    {.name = "log-format", .group = kLife, .metavar = "FORM", .programs = kEveryProgram,
     .default_value = "auto",
     .help = "json, plain, or auto: plain on a terminal", .choices = "auto|json|plain"},
    {.name = "config", .group = kLife, .metavar = "FILE", .programs = kEveryProgram,
     .help = "YAML file of these options, one key each; one file may serve all programs of a cell"},
};
// clang-format on

}  // namespace

absl::Span<const OptionSpec> OptionTable() { return kTable; }

}  // namespace mirrorsd::config
