#include "scheduler/transcript/printing.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error.h"

namespace mirrorsd::scheduler {
namespace {

std::string Tokens(const std::vector<TokenId>& tokens) {
  return tokens.empty() ? "-" : absl::StrJoin(tokens, ",");
}

std::string Range(int64_t begin, int64_t end) { return absl::StrCat("[", begin, ",", end, ")"); }

std::string Print(const StartVerify& verify) {
  std::vector<std::string> items;
  for (const VerifyItem& item : verify.items) {
    items.push_back(item.is_prefill
                        ? absl::StrCat(item.sequence_id, " chunk ", Range(item.begin, item.end),
                                       item.end == item.committed_length ? " final" : "")
                        : absl::StrCat(item.sequence_id, " window ", Tokens(item.window), " after ",
                                       item.committed_length));
    if (item.branch_top_k > 0) absl::StrAppend(&items.back(), " top_k=", item.branch_top_k);
  }
  return absl::StrCat("StartVerify ", verify.round_id, ": ", absl::StrJoin(items, "; "));
}

std::string Print(const StartRollout& rollout) {
  std::vector<std::string> roots;
  for (const RolloutRoot& root : rollout.roots) {
    roots.push_back(absl::StrCat("(", root.num_accepted, ",",
                                 root.token.has_value() ? absl::StrCat(*root.token)
                                                        : absl::StrCat("own", root.own_rank),
                                 ")"));
  }
  return absl::StrCat("StartRollout ", rollout.sequence_id, " round=", rollout.round_id,
                      " committed=", rollout.committed_length, " path_offset=", rollout.path_offset,
                      " path=", Tokens(rollout.path_tokens), " window=", Tokens(rollout.window),
                      " root=", absl::StrJoin(roots, ""), " depth=", rollout.depth);
}

std::string Print(const WorkerCommand& command) {
  if (const auto* start = std::get_if<StartSequence>(&command)) {
    return absl::StrCat("StartSequence ", start->sequence_id, " prompt=", start->prompt_length,
                        " total=", start->total_length);
  }
  if (const auto* append = std::get_if<AppendTokens>(&command)) {
    return absl::StrCat("AppendTokens ", append->sequence_id, " ",
                        Range(append->offset, append->offset +
                                                  static_cast<int64_t>(append->token_ids.size())));
  }
  if (const auto* verify = std::get_if<StartVerify>(&command)) return Print(*verify);
  if (const auto* rollout = std::get_if<StartRollout>(&command)) return Print(*rollout);
  if (const auto* end = std::get_if<EndSequence>(&command)) {
    return absl::StrCat("EndSequence ", end->sequence_id);
  }
  return "Drain";
}

std::string Print(const Committed& committed) {
  static const char* const kOrigins[] = {"prefill", "accepted", "recovered", "bonus"};
  static const char* const kReasons[] = {"", "stop", "length", "cancelled", "error"};
  std::vector<std::string> tokens;
  for (size_t i = 0; i < committed.token_ids.size(); ++i) {
    tokens.push_back(absl::StrCat(committed.token_ids[i], " ",
                                  kOrigins[static_cast<int>(committed.origins[i])]));
  }
  std::string text =
      absl::StrCat("commits from ", committed.output_index, ": ", absl::StrJoin(tokens, ", "));
  if (committed.finish == FinishReason::kNone) return text;
  const SpeculationStats& stats = committed.stats;
  absl::StrAppend(&text, "; finish ", kReasons[static_cast<int>(committed.finish)], "; rounds ",
                  stats.rounds, " (", stats.empty_window_rounds, " empty), accepted ",
                  stats.accepted_tokens, " of ", stats.drafted_tokens, ", max_batch ",
                  stats.max_batch, ", resumes ", stats.resumes);
  return text;
}

}  // namespace

std::string Print(const Action& action, const std::map<ConnectionId, std::string>& names) {
  const auto name = [&names](ConnectionId id) { return names.at(id); };
  if (const auto* welcome = std::get_if<WelcomeWorker>(&action)) {
    return absl::StrCat("welcome ", name(welcome->connection), " incarnation=",
                        welcome->welcome.incarnation, " epoch=", welcome->welcome.scheduler_epoch);
  }
  if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
    return absl::StrCat("refuse ", name(refuse->connection), ": ", refuse->refused.reason,
                        refuse->refused.retryable ? " (retryable) " : " (final) ",
                        refuse->refused.message);
  }
  if (const auto* close = std::get_if<CloseWorker>(&action)) {
    return absl::StrCat("close ", name(close->connection), ": ", close->reason);
  }
  if (const auto* send = std::get_if<SendToWorker>(&action)) {
    return absl::StrCat(name(send->connection), " ", Print(send->command));
  }
  if (const auto* commit = std::get_if<CommitTokens>(&action)) {
    return absl::StrCat(name(commit->stream), " ", Print(commit->committed));
  }
  const auto& fail = std::get<FailRequest>(action);
  const ErrorInfo info = GetErrorInfo(fail.status).value_or(ErrorInfo{});
  return absl::StrCat(name(fail.stream), " fails: ", absl::StatusCodeToString(fail.status.code()),
                      " ", info.reason, info.field.empty() ? "" : absl::StrCat(" ", info.field),
                      info.retryable ? " (retryable)" : " (final)");
}

}  // namespace mirrorsd::scheduler
