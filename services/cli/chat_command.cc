#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "services/cell/signals.h"
#include "services/cli/answerer.h"
#include "services/cli/commands.h"
#include "services/cli/request_options.h"
#include "services/text/utf8.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd chat";

class Conversation {
 public:
  Conversation(const config::Options& options, InferenceClient* client)
      : system_(options.Text("system")), shows_statistics_(options.Flag("show-statistics")), client_(client),
        timeout_(options.Has("request-timeout-s") ? absl::Seconds(options.Number("request-timeout-s"))
                                                  : absl::InfiniteDuration()) {
    Reset();
  }

  absl::Status SetParameters(const config::Options& options) {
    return FillParameters(options, &request_);
  }

  void Reset() {
    request_.clear_chat();
    if (!system_.empty()) Add("system", system_);
  }

  // Asks, streams the answer and keeps both; after an error the question is forgotten.
  absl::Status Say(const std::string& line) {
    const v1::Chat before = request_.chat();
    Add("user", line);
    std::string answer;
    const auto final = client_->Generate(request_, timeout_, [&](const v1::GenerateResponse& delta) {
      std::fwrite(delta.text().data(), 1, delta.text().size(), stdout);
      std::fflush(stdout);
      answer += delta.text();
    });
    if (!answer.empty() || final.ok()) std::fputc('\n', stdout);
    std::fflush(stdout);
    if (final.ok()) {
      Add("assistant", answer);
      if (shows_statistics_) std::fprintf(stderr, "%s\n", StatisticsLine(*final).c_str());
    } else {
      *request_.mutable_chat() = before;
    }
    return final.status();
  }

 private:
  void Add(const std::string& role, const std::string& content) {
    v1::ChatMessage* message = request_.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  const std::string system_;
  const bool shows_statistics_;
  InferenceClient* const client_;
  const absl::Duration timeout_;
  v1::GenerateRequest request_;
};

// Reads lines until they end. Returns how the last answer that failed failed.
ExitCode Converse(Conversation* conversation, bool on_terminal) {
  ExitCode code = cell::kExitDone;
  std::string line;
  while (true) {
    if (on_terminal) std::fputs("> ", stdout);
    std::fflush(stdout);
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line.empty()) continue;
    if (line == "/reset") {
      conversation->Reset();
      continue;
    }
    if (!text::IsValidUtf8(line)) {
      std::fprintf(stderr, "%s: this line is not valid UTF-8\n", kProgram);
      code = cell::kExitBadInput;
      continue;
    }
    const absl::Status status = conversation->Say(line);
    if (status.ok()) continue;
    const bool stopped = on_terminal && status.code() == absl::StatusCode::kCancelled;
    if (!stopped) code = cell::ReportFailure(kProgram, status);
    if (status.code() == absl::StatusCode::kCancelled && !on_terminal) break;
  }
  if (on_terminal) std::fputc('\n', stdout);
  return on_terminal ? cell::kExitDone : code;
}

}  // namespace

ExitCode RunChat(const config::Options& options) {
  auto answerer = Answerer::Make(options);
  if (!answerer.ok()) return cell::ReportFailure(kProgram, answerer.status());
  InferenceClient* const client = &(*answerer)->client();
  Conversation conversation(options, client);
  if (absl::Status status = conversation.SetParameters(options); !status.ok()) {
    return cell::ReportFailure(kProgram, status);
  }
  const cell::SignalWatch watch([client](int) {
    if (!client->Cancel()) _exit(cell::kExitInterrupted);  // reading a line: nothing to end in order
  });
  return Converse(&conversation, isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0);
}

}  // namespace mirrorsd::cli
