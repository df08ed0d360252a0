// Bytes as any internal message: the first byte chooses which, the rest is parsed and validated as from a
// peer. What is taken must convert back to a message that is taken again and gives the same bytes; what is
// refused must name a field.

#include <cstdint>
#include <string>

#include "google/protobuf/stubs/logging.h"

#include "common/check.h"
#include "common/error.h"
#include "grpcpp/support/status.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

pb::WorkerMessage Rewrite(const FromWorker& content) {
  pb::WorkerMessage message;
  message.set_scheduler_epoch(content.fence.scheduler_epoch);
  message.set_incarnation(content.fence.incarnation);
  if (const auto* hello = std::get_if<Hello>(&content.content)) {
    Write(*hello, message.mutable_hello());
  } else {
    for (const WorkerReport& report : std::get<std::vector<WorkerReport>>(content.content)) {
      Write(report, message.add_reports());
    }
  }
  return message;
}

pb::SchedulerMessage Rewrite(const FromScheduler& content) {
  pb::SchedulerMessage message;
  message.set_scheduler_epoch(content.fence.scheduler_epoch);
  message.set_incarnation(content.fence.incarnation);
  if (const auto* welcome = std::get_if<Welcome>(&content.content)) {
    Write(*welcome, message.mutable_welcome());
  } else if (const auto* refused = std::get_if<Refused>(&content.content)) {
    Write(*refused, message.mutable_refused());
  } else {
    for (const WorkerCommand& command : std::get<std::vector<WorkerCommand>>(content.content)) {
      Write(command, message.add_commands());
    }
  }
  return message;
}

pb::SubmitRequest Rewrite(const SubmitRequest& request) {
  pb::SubmitRequest message;
  Write(request, &message);
  return message;
}

pb::Committed Rewrite(const Committed& committed) {
  pb::Committed message;
  Write(committed, &message);
  return message;
}

pb::DescribeCellResponse Rewrite(const CellDescription& cell) {
  pb::DescribeCellResponse message;
  Write(cell, &message);
  return message;
}

template <typename Message>
void TryMessage(const std::string& bytes) {
  Message message;
  if (!message.ParseFromString(bytes)) return;
  const auto parsed = Parse(message);
  if (!parsed.ok()) {
    const auto info = GetErrorInfo(parsed.status());
    CHECK(info.has_value() && info->reason == "INVALID_FIELD" && !info->field.empty());
    const absl::Status back = FromGrpcStatus(ToGrpcStatus(parsed.status()));
    CHECK(back.code() == parsed.status().code());
    return;
  }
  const Message first = Rewrite(*parsed);
  const auto again = Parse(first);
  CHECK(again.ok()) << again.status();
  CHECK(Rewrite(*again).SerializeAsString() == first.SerializeAsString());
}

void TryStatus(const std::string& bytes) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, bytes.substr(0, 64), bytes));
  const auto info = GetErrorInfo(status);
  if (!info.has_value()) return;
  CHECK(GetErrorInfo(FromGrpcStatus(ToGrpcStatus(status))) == info);
}

}  // namespace
}  // namespace mirrorsd::wire

// Strings that are no UTF-8 would fill the log.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::wire;
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      TryMessage<pb::WorkerMessage>(bytes);
      break;
    case 1:
      TryMessage<pb::SchedulerMessage>(bytes);
      break;
    case 2:
      TryMessage<pb::SubmitRequest>(bytes);
      break;
    case 3:
      TryMessage<pb::Committed>(bytes);
      break;
    case 4:
      TryMessage<pb::DescribeCellResponse>(bytes);
      break;
    default:
      TryStatus(bytes);
  }
  return 0;
}
