#include "services/wire/status_wire.h"

#include <optional>
#include <string>

#include "common/error.h"
#include "mirrorsd/internal/v1/status.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kDomain[] = "mirrorsd";
// Trailing metadata is 8 KiB in all by default, and the message is in it twice.
constexpr size_t kMaxMessageBytes = 2048;
constexpr size_t kMaxWordBytes = 512;

std::string Find(const pb::ErrorDetail& detail, const char* key) {
  const auto found = detail.metadata().find(key);
  return found == detail.metadata().end() ? "" : WireText(found->second, kMaxWordBytes);
}

std::optional<ErrorInfo> FindErrorInfo(const std::string& details) {
  pb::StatusDetails status;
  if (details.empty() || !status.ParseFromString(details)) return std::nullopt;
  for (const auto& any : status.details()) {
    pb::ErrorDetail detail;
    if (any.type_url() != kErrorInfoUrl || !detail.ParseFromString(any.value())) continue;
    if (detail.domain() != kDomain) continue;
    return ErrorInfo{.reason = WireText(detail.reason(), kMaxWordBytes),
                     .field = Find(detail, "field"),
                     .limit = Find(detail, "limit"),
                     .retryable = Find(detail, "retryable") == "true"};
  }
  return std::nullopt;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = WireText(status.message(), kMaxMessageBytes);
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) return grpc::Status(code, message);

  pb::ErrorDetail detail;
  detail.set_reason(WireText(info->reason, kMaxWordBytes));
  detail.set_domain(kDomain);
  auto& metadata = *detail.mutable_metadata();
  if (!info->field.empty()) metadata["field"] = WireText(info->field, kMaxWordBytes);
  if (!info->limit.empty()) metadata["limit"] = WireText(info->limit, kMaxWordBytes);
  metadata["retryable"] = info->retryable ? "true" : "false";

  pb::StatusDetails details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  auto* any = details.add_details();
  any->set_type_url(kErrorInfoUrl);
  any->set_value(detail.SerializeAsString());
  return grpc::Status(code, message, details.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  auto code = static_cast<absl::StatusCode>(status.error_code());
  if (code < absl::StatusCode::kCancelled || code > absl::StatusCode::kUnauthenticated) {
    code = absl::StatusCode::kUnknown;
  }
  const std::string message = WireText(status.error_message(), 4 * kMaxMessageBytes);
  const std::optional<ErrorInfo> info = FindErrorInfo(status.error_details());
  if (!info.has_value()) return absl::Status(code, message);
  return MakeError(code, message, *info);
}

}  // namespace mirrorsd::wire
