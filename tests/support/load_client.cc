// A client that keeps many streams of mirrorsd.v1.Inference open at once, for tests that disturb a cell under load.
// Reads one JSON line per request from stdin and prints one JSON line per request that ended. It judges
// nothing, retries nothing and knows no right answer: whoever feeds it does.
//
//   load_client --server HOST:PORT [--streams N] [--bound-s S] [--gap-s S]
//
//   in:   {"id": "7", "request": {GenerateRequest as JSON}, "cancel_after_tokens": 12}
//   out:  {"id": "7", "code": "OK", "reason": "", "retryable": false, "message": "", "hung": false,
//          "token_ids": [...], "final": {GenerateFinal as JSON} or null, "started_at": s, "ended_at": s,
//          "max_gap_s": s, "gaps": [[begun_at, seconds], ...]}
//
// Instants are CLOCK_MONOTONIC seconds. A gap is the time between two messages of a stream that carry tokens (the wait
// for the first is none); those of at least --gap-s are listed. A request older than --bound-s is
// cancelled and told as hung.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/error.h"
#include "google/protobuf/util/json_util.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "mirrorsd/v1/inference.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "services/rpc/channel.h"
#include "services/runtime/clock.h"
#include "services/wire/status_wire.h"

namespace mirrorsd {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::milliseconds kConnectTime(500);

struct Settings {
  std::string server;
  int num_streams = 32;
  absl::Duration bound = absl::Seconds(120);
  absl::Duration gap = absl::Milliseconds(250);
};

double Seconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

// The lines of stdin, handed to whichever stream is free.
class Feed {
 public:
  void Put(std::string line) {
    std::lock_guard<std::mutex> lock(mutex_);
    lines_.push_back(std::move(line));
    changed_.notify_one();
  }
  void Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  // Nothing once the feed is closed and empty.
  std::optional<std::string> Take() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !lines_.empty(); });
    if (lines_.empty()) return std::nullopt;
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;  // guarded by mutex_
  bool closed_ = false;            // guarded by mutex_
};

// Ends one call when its time is over, unless it is destroyed before.
class Watchdog {
 public:
  Watchdog(grpc::ClientContext* context, absl::Duration bound)
      : thread_([this, context, bound] {
          std::unique_lock<std::mutex> lock(mutex_);
          const auto is_over = [this] { return over_; };
          if (changed_.wait_for(lock, absl::ToChronoNanoseconds(bound), is_over)) return;
          barked_ = true;
          context->TryCancel();
        }) {}
  ~Watchdog() { Finish(); }

  // Waits for the thread and returns whether it has cancelled the call. Idempotent.
  bool Finish() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    return barked_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;    // guarded by mutex_
  bool barked_ = false;  // guarded by mutex_ while the thread runs
  std::thread thread_;
};

void Print(const Json& line) {
  static std::mutex mutex;
  const std::string text = line.dump() + "\n";
  std::lock_guard<std::mutex> lock(mutex);
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// What one stream yielded so far.
struct Reception {
  Json token_ids = Json::array();
  Json gaps = Json::array();
  Json final;
  absl::Duration max_gap;
  absl::Time last_at = absl::InfinitePast();

  void Take(const v1::GenerateResponse& response, absl::Duration least_gap) {
    if (response.token_ids_size() > 0) {
      const absl::Time now = runtime::MonotonicNow();
      if (last_at != absl::InfinitePast()) {
        max_gap = std::max(max_gap, now - last_at);
        if (now - last_at >= least_gap) {
          gaps.push_back({Seconds(last_at), absl::ToDoubleSeconds(now - last_at)});
        }
      }
      last_at = now;
      for (const int32_t id : response.token_ids()) token_ids.push_back(id);
    }
    if (response.has_final()) {
      std::string text;
      google::protobuf::util::JsonPrintOptions options;
      options.preserve_proto_field_names = true;
      options.always_print_primitive_fields = true;
      if (!MessageToJsonString(response.final(), &text, options).ok()) std::abort();
      final = Json::parse(text);
    }
  }
};

void RunOne(v1::Inference::Stub* stub, const Settings& settings, const std::string& line) {
  const Json order = Json::parse(line);
  v1::GenerateRequest request;
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(order.at("request").dump(), &request);
  if (!parsed.ok()) {
    std::cerr << "load_client: not a GenerateRequest: " << line << "\n";
    std::exit(3);
  }
  const size_t cancel_after = order.value("cancel_after_tokens", size_t{0});
  const absl::Time started_at = runtime::MonotonicNow();
  grpc::ClientContext context;
  Watchdog watchdog(&context, settings.bound);
  Reception got;
  const auto reader = stub->Generate(&context, request);
  for (v1::GenerateResponse response; reader->Read(&response);) {
    got.Take(response, settings.gap);
    if (cancel_after > 0 && got.token_ids.size() >= cancel_after) context.TryCancel();
  }
  const absl::Status status = wire::FromGrpcStatus(reader->Finish());
  const bool hung = watchdog.Finish();
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  Print({{"id", order.at("id")},
         {"code", absl::StatusCodeToString(status.code())},
         {"reason", info.has_value() ? info->reason : ""},
         {"retryable", info.has_value() && info->retryable},
         {"message", std::string(status.message())},
         {"hung", hung},
         {"token_ids", std::move(got.token_ids)},
         {"final", std::move(got.final)},
         {"started_at", Seconds(started_at)},
         {"ended_at", Seconds(runtime::MonotonicNow())},
         {"max_gap_s", absl::ToDoubleSeconds(got.max_gap)},
         {"gaps", std::move(got.gaps)}});
}

std::optional<Settings> ParseSettings(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--server") {
      settings.server = argv[i + 1];
    } else if (name == "--streams") {
      settings.num_streams = std::atoi(argv[i + 1]);
    } else if (name == "--bound-s") {
      settings.bound = absl::Seconds(std::atof(argv[i + 1]));
    } else if (name == "--gap-s") {
      settings.gap = absl::Seconds(std::atof(argv[i + 1]));
    } else {
      return std::nullopt;
    }
  }
  if (argc % 2 == 0 || settings.server.empty() || settings.num_streams < 1) return std::nullopt;
  return settings;
}

int Main(int argc, char** argv) {
  const std::optional<Settings> settings = ParseSettings(argc, argv);
  if (!settings.has_value()) {
    std::cerr << "usage: load_client --server HOST:PORT [--streams N] [--bound-s S] [--gap-s S]\n";
    return 2;
  }
  Feed feed;
  std::vector<std::thread> streams;
  for (int i = 0; i < settings->num_streams; ++i) {
    streams.emplace_back([&feed, &settings] {
      // A connection for each stream, as of clients that know nothing of each other.
      const std::shared_ptr<grpc::Channel> channel = rpc::DialChannel(settings->server);
      const auto stub = v1::Inference::NewStub(channel);
      while (const auto line = feed.Take()) {
        // A blocking client's connection makes progress only while somebody waits on it: calls that fail at once
        // would leave a reconnect to gRPC's backup poller, which looks every five seconds.
        channel->WaitForConnected(std::chrono::system_clock::now() + kConnectTime);
        RunOne(stub.get(), *settings, *line);
      }
    });
  }
  for (std::string line; std::getline(std::cin, line);) feed.Put(std::move(line));
  feed.Close();
  for (std::thread& stream : streams) stream.join();
  return 0;
}

}  // namespace
}  // namespace mirrorsd

int main(int argc, char** argv) { return mirrorsd::Main(argc, argv); }
