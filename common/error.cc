#include "common/error.h"

#include <string>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace mirrorsd {
namespace {

constexpr char kPayloadUrl[] = "mirrorsd.error_info";
constexpr char kSeparator = '\x1f';

std::string WithLimit(absl::string_view subject, absl::string_view message,
                      absl::string_view limit) {
  std::string text = absl::StrCat(subject, ": ", message);
  if (!limit.empty()) absl::StrAppend(&text, " (limit: ", limit, ")");
  return text;
}

// The separator is a control character that no text of ours needs.
std::string Plain(absl::string_view text) {
  return absl::StrReplaceAll(text, {{absl::string_view(&kSeparator, 1), " "}});
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, absl::string_view message, const ErrorInfo& info) {
  absl::Status status(code, message);
  const char separator[] = {kSeparator, 0};
  status.SetPayload(kPayloadUrl,
                    absl::Cord(absl::StrCat(Plain(info.reason), separator, Plain(info.field),
                                            separator, Plain(info.limit), separator,
                                            info.retryable ? "1" : "0")));
  return status;
}

absl::Status InvalidField(absl::string_view field, absl::string_view message,
                          absl::string_view limit) {
  return MakeError(absl::StatusCode::kInvalidArgument, WithLimit(field, message, limit),
                   {"INVALID_FIELD", std::string(field), std::string(limit), false});
}

absl::Status BadFile(absl::string_view path, absl::string_view message, absl::string_view limit) {
  return MakeError(absl::StatusCode::kInvalidArgument, WithLimit(path, message, limit),
                   {"BAD_FILE", std::string(path), std::string(limit), false});
}

absl::Status MissingFile(absl::string_view path, absl::string_view message) {
  return MakeError(absl::StatusCode::kNotFound, WithLimit(path, message, ""),
                   {"MISSING_FILE", std::string(path), "", false});
}

absl::Status Overloaded(absl::string_view reason, absl::string_view message,
                        absl::string_view limit) {
  return MakeError(absl::StatusCode::kResourceExhausted, message,
                   {std::string(reason), "", std::string(limit), true});
}

absl::Status Unavailable(absl::string_view reason, absl::string_view message) {
  return MakeError(absl::StatusCode::kUnavailable, message, {std::string(reason), "", "", true});
}

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::vector<std::string> parts = absl::StrSplit(std::string(*payload), kSeparator);
  if (parts.size() != 4) return std::nullopt;
  return ErrorInfo{parts[0], parts[1], parts[2], parts[3] == "1"};
}

}  // namespace mirrorsd
