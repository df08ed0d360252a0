#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/error.h"
#include "services/wire/field_check.h"
#include "services/wire/inference_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = google::protobuf;

// The same schema with bytes in place of strings: it takes what a string refuses, so that the field can be
// found. Built once; only looked at when a parse has failed.
class LenientSchema {
 public:
  explicit LenientSchema(const pb::FileDescriptor* file) {
    pb::FileDescriptorProto proto;
    file->CopyTo(&proto);
    for (auto& message : *proto.mutable_message_type()) Loosen(&message);
    file_ = pool_.BuildFile(proto);
  }

  std::unique_ptr<pb::Message> Parse(const std::string& name, const std::string& bytes) {
    const pb::Descriptor* type = file_ != nullptr ? file_->FindMessageTypeByName(name) : nullptr;
    if (type == nullptr) return nullptr;
    std::unique_ptr<pb::Message> message(factory_.GetPrototype(type)->New());
    return message->ParseFromString(bytes) ? std::move(message) : nullptr;
  }

 private:
  static void Loosen(pb::DescriptorProto* message) {
    for (auto& field : *message->mutable_field()) {
      if (field.type() == pb::FieldDescriptorProto::TYPE_STRING) {
        field.set_type(pb::FieldDescriptorProto::TYPE_BYTES);
      }
    }
    for (auto& nested : *message->mutable_nested_type()) Loosen(&nested);
  }

  pb::DescriptorPool pool_;
  pb::DynamicMessageFactory factory_{&pool_};
  const pb::FileDescriptor* file_ = nullptr;
};

// WireText changes exactly what is no UTF-8.
bool IsUtf8(const std::string& text) { return WireText(text, text.size()) == text; }

// The path of the first bytes field that is not UTF-8; empty if there is none.
std::string FindBroken(const pb::Message& message) {
  const pb::Reflection* reflection = message.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string name = field->is_repeated() ? absl::StrCat(field->name(), "[", i, "]")
                                                    : field->name();
      if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
        const std::string inner = FindBroken(
            field->is_repeated() ? reflection->GetRepeatedMessage(message, field, i)
                                 : reflection->GetMessage(message, field));
        if (!inner.empty()) return absl::StrCat(name, ".", inner);
      } else if (field->type() == pb::FieldDescriptor::TYPE_BYTES) {
        const std::string text = field->is_repeated()
                                     ? reflection->GetRepeatedString(message, field, i)
                                     : reflection->GetString(message, field);
        if (!IsUtf8(text)) return name;
      }
    }
  }
  return "";
}

// Takes from `left` for each entry of a message of `type`; false once there is none left. What is no message is
// not this function's to say.
bool CountEntries(pb::io::CodedInputStream* in, const pb::Descriptor* type, int64_t* left) {
  using Lite = pb::internal::WireFormatLite;
  while (const uint32_t tag = in->ReadTag()) {
    const pb::FieldDescriptor* field = type->FindFieldByNumber(Lite::GetTagFieldNumber(tag));
    const bool is_delimited = Lite::GetTagWireType(tag) == Lite::WIRETYPE_LENGTH_DELIMITED;
    if ((is_delimited || field == nullptr) && --*left < 0) return false;
    uint32_t size = 0;
    if (!is_delimited || field == nullptr ||
        field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!Lite::SkipField(in, tag)) return true;
      continue;
    }
    if (!in->ReadVarint32(&size)) return true;
    const auto limit = in->PushLimit(static_cast<int>(size));
    if (!CountEntries(in, field->message_type(), left)) return false;
    if (in->BytesUntilLimit() > 0) return true;
    in->PopLimit(limit);
  }
  return true;
}

bool HasTooManyEntries(const std::string& bytes, const pb::Descriptor* type) {
  pb::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                              static_cast<int>(bytes.size()));
  int64_t left = kMaxRequestEntries;
  return !CountEntries(&in, type, &left);
}

}  // namespace

absl::Status ParseMessage(const std::string& bytes, google::protobuf::Message* message) {
  if (bytes.size() / 2 > kMaxRequestEntries && HasTooManyEntries(bytes, message->GetDescriptor())) {
    return InvalidField("message", "has too many entries", absl::StrCat(kMaxRequestEntries));
  }
  {
    // What protobuf would print about broken UTF-8 is told to the client instead.
    pb::LogSilencer silence;
    if (message->ParseFromString(bytes)) return absl::OkStatus();
  }
  static std::mutex mutex;
  static LenientSchema* schema = new LenientSchema(message->GetDescriptor()->file());
  std::lock_guard<std::mutex> lock(mutex);
  const std::unique_ptr<pb::Message> lenient =
      schema->Parse(message->GetDescriptor()->name(), bytes);
  const std::string broken = lenient != nullptr ? FindBroken(*lenient) : "";
  if (!broken.empty()) return InvalidField(broken, "is not valid UTF-8", "UTF-8");
  return InvalidField("message", absl::StrCat("the bytes are not a ",
                                              message->GetDescriptor()->full_name()));
}

}  // namespace mirrorsd::wire
