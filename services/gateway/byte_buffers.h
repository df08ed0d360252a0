#pragma once
// Messages <-> the raw bytes of a gRPC call. The public methods take raw bytes so that a message that does not
// parse can be answered by name of the field. Pure functions.

#include <google/protobuf/message.h>

#include <string>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

namespace mirrorsd::gateway {

inline std::string ToBytes(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

inline grpc::ByteBuffer ToByteBuffer(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace mirrorsd::gateway
