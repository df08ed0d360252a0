#include "services/wire/status_wire.h"

#include <string>

#include "common/error.h"
#include "gtest/gtest.h"
#include "mirrorsd/internal/v1/status.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {
namespace {

TEST(StatusWireTest, ReasonFieldLimitAndRetryableSurvive) {
  const absl::Status statuses[] = {
      InvalidField("sampling.top_p", "is 2", "above 0, at most 1"),
      Overloaded("QUEUE_FULL", "too many requests wait", "1024"),
      Unavailable("VERIFIER_LOST", "the verifier was lost"),
      MakeError(absl::StatusCode::kUnauthenticated, "no token", {.reason = "NO_TOKEN"}),
  };
  for (const absl::Status& status : statuses) {
    const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
    EXPECT_EQ(back.code(), status.code());
    EXPECT_EQ(back.message(), status.message());
    EXPECT_EQ(GetErrorInfo(back), GetErrorInfo(status)) << status;
  }
}

TEST(StatusWireTest, OkAndPlainStatuses) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  const grpc::Status plain = ToGrpcStatus(absl::InternalError("x"));
  EXPECT_EQ(plain.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(plain.error_details().empty());
  EXPECT_FALSE(GetErrorInfo(FromGrpcStatus(plain)).has_value());
}

TEST(StatusWireTest, DetailsAreTheStandardOnes) {
  const grpc::Status status = ToGrpcStatus(InvalidField("a", "b", "c"));
  internal::v1::StatusDetails details;  // the same bytes as google.rpc.Status
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), 3);
  EXPECT_EQ(details.message(), status.error_message());
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
}

TEST(StatusWireTest, WhatIsNotOursIsLeftOut) {
  EXPECT_FALSE(GetErrorInfo(FromGrpcStatus({grpc::StatusCode::ABORTED, "m", "\x01garbage"}))
                   .has_value());
  internal::v1::StatusDetails details;
  internal::v1::ErrorDetail foreign;
  foreign.set_reason("R");
  foreign.set_domain("example.com");
  auto* any = details.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  any->set_value(foreign.SerializeAsString());
  EXPECT_FALSE(GetErrorInfo(FromGrpcStatus({grpc::StatusCode::ABORTED, "m",
                                            details.SerializeAsString()}))
                   .has_value());
  // The largest value that the enumeration's type can hold; no code has it.
  EXPECT_EQ(FromGrpcStatus({static_cast<grpc::StatusCode>(31), "m"}).code(),
            absl::StatusCode::kUnknown);
}

TEST(StatusWireTest, LongAndBrokenTextsStillFitIntoMetadata) {
  const std::string huge(100'000, '\xff');
  const grpc::Status status = ToGrpcStatus(InvalidField(huge, huge, huge));
  EXPECT_LT(status.error_message().size() + status.error_details().size(), 7000u);
  const auto info = GetErrorInfo(FromGrpcStatus(status));
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "INVALID_FIELD");
}

TEST(WireTextTest, CutsAtCharactersAndReplacesWhatIsNone) {
  EXPECT_EQ(WireText("ab\xc3\xa9", 4), "ab\xc3\xa9");
  EXPECT_EQ(WireText("ab\xc3\xa9", 3), "ab");
  EXPECT_EQ(WireText("\xe2\x82\xac\xf0\x9f\x98\x80", 100), "\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(WireText("a\xff" "b\xc3", 100), "a?b?");
  EXPECT_EQ(WireText("\xed\xa0\x80", 100), "???");      // a surrogate
  EXPECT_EQ(WireText("\xc0\x80", 100), "??");           // overlong
  EXPECT_EQ(WireText("\xf4\x90\x80\x80", 100), "????");  // above U+10FFFF
}

}  // namespace
}  // namespace mirrorsd::wire
