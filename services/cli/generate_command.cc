#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "services/cell/signals.h"
#include "services/cli/answerer.h"
#include "services/cli/commands.h"
#include "services/cli/request_options.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd generate";

absl::StatusOr<v1::GenerateRequest> BuildRequest(const config::Options& options) {
  v1::GenerateRequest request;
  if (absl::Status status = FillInput(options, &request); !status.ok()) return status;
  if (absl::Status status = FillParameters(options, &request); !status.ok()) return status;
  request.set_request_id(options.Text("request-id"));
  return request;
}

absl::Duration TimeoutOf(const config::Options& options) {
  return options.Has("request-timeout-s") ? absl::Seconds(options.Number("request-timeout-s"))
                                          : absl::InfiniteDuration();
}

// Generates, writing the text as it comes or the JSON at the end.
absl::Status Answer(const config::Options& options, const v1::GenerateRequest& request,
                    InferenceClient* client) {
  const bool json = options.Text("output") == "json";
  std::string request_id;
  std::vector<TokenId> token_ids;
  std::string text;
  bool any_text = false;
  auto final = client->Generate(request, TimeoutOf(options),
                                [&](const v1::GenerateResponse& response) {
                                  if (!response.request_id().empty()) {
                                    request_id = response.request_id();
                                  }
                                  if (!json) {
                                    std::fwrite(response.text().data(), 1, response.text().size(),
                                                stdout);
                                    std::fflush(stdout);
                                    any_text = true;
                                    return;
                                  }
                                  token_ids.insert(token_ids.end(), response.token_ids().begin(),
                                                   response.token_ids().end());
                                  text += response.text();
                                });
  if (!json) {
    if (any_text) std::fputc('\n', stdout);
  } else if (final.ok()) {
    std::fputs(AnswerJson(request_id, token_ids, text, *final).c_str(), stdout);
  }
  if (std::fflush(stdout) != 0) return absl::InternalError("cannot write to standard output");
  if (final.ok() && options.Flag("show-statistics")) {
    std::fprintf(stderr, "%s\n", StatisticsLine(*final).c_str());
  }
  return final.status();
}

}  // namespace

ExitCode RunGenerate(const config::Options& options) {
  auto request = BuildRequest(options);
  if (!request.ok()) return cell::ReportFailure(kProgram, request.status());
  auto answerer = Answerer::Make(options);
  if (!answerer.ok()) return cell::ReportFailure(kProgram, answerer.status());
  InferenceClient* const client = &(*answerer)->client();
  const cell::SignalWatch watch([client](int) { client->Cancel(); });
  const absl::Status status = Answer(options, *request, client);
  if (!status.ok()) return cell::ReportFailure(kProgram, status);
  return cell::kExitDone;
}

}  // namespace mirrorsd::cli
