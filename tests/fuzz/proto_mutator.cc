#include "tests/fuzz/proto_mutator.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/logging.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace mirrorsd::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Small ones, the limits of services/wire and their neighbours, and the ends of the types.
constexpr std::array<int64_t, 24> kEdges = {
    0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 255, 256, 1023, 1024, 4096, 4097, 8192, 65535, 65536,
    1 << 20, 1 << 24, std::numeric_limits<int32_t>::max(), std::numeric_limits<int64_t>::max()};

// Around the ends of the type, so without a sign that could overflow.
uint64_t Number(uint64_t now, Random* random) {
  const uint64_t edge = static_cast<uint64_t>(kEdges[(*random)() % kEdges.size()]);
  switch ((*random)() % 8) {
    case 0: return now + 1;
    case 1: return now - 1;
    case 2: return -now;
    case 3: return now ^ (uint64_t{1} << (*random)() % 64);
    case 4: return -edge;
    case 5: return (*random)() % 8;
    default: return edge + (*random)() % 2;
  }
}

double Real(double now, Random* random) {
  constexpr std::array<double, 12> kReals = {0,   -0.0, 1,    -1,  0.5,    100,
                                             101, -2,   1e30, 2.5, 1e-45, -100.5};
  switch ((*random)() % 8) {
    case 0: return std::numeric_limits<double>::quiet_NaN();
    case 1: return std::numeric_limits<double>::infinity();
    case 2: return now * 2;
    case 3: return std::nextafter(now, 1e9);
    default: return kReals[(*random)() % kReals.size()];
  }
}

std::string Text(std::string now, Random* random) {
  switch ((*random)() % 8) {
    case 0: return "";
    case 1: return now + std::string(1 + (*random)() % 300, 'x');
    case 2: return now + now;
    default: break;
  }
  for (uint64_t times = 1 + (*random)() % 4; times > 0; --times) {
    const char byte = static_cast<char>((*random)());
    const size_t at = now.empty() ? 0 : (*random)() % now.size();
    if ((*random)() % 2 == 0 && !now.empty()) {
      now[at] = byte;
    } else {
      now.insert(at, 1, byte);
    }
  }
  return now;
}

// Sets a scalar: the field itself, or entry `index` of a repeated one; at the size of it, a new entry.
void SetScalar(Message* message, const FieldDescriptor* field, int index, Random* random) {
  const Reflection* reflection = message->GetReflection();
  const bool repeated = field->is_repeated();
  const bool add = repeated && index >= reflection->FieldSize(*message, field);
#define MIRRORSD_SET(KIND, CHANGE)                                                              \
  {                                                                                             \
    const auto now = add ? decltype(reflection->Get##KIND(*message, field)){}                   \
                     : repeated ? reflection->GetRepeated##KIND(*message, field, index)         \
                                : reflection->Get##KIND(*message, field);                       \
    const auto next = CHANGE;                                                                   \
    if (add) {                                                                                  \
      reflection->Add##KIND(message, field, next);                                              \
    } else if (repeated) {                                                                      \
      reflection->SetRepeated##KIND(message, field, index, next);                               \
    } else {                                                                                    \
      reflection->Set##KIND(message, field, next);                                              \
    }                                                                                           \
    return;                                                                                     \
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      MIRRORSD_SET(Int32, static_cast<int32_t>(Number(static_cast<uint64_t>(now), random)))
    case FieldDescriptor::CPPTYPE_INT64:
      MIRRORSD_SET(Int64, static_cast<int64_t>(Number(static_cast<uint64_t>(now), random)))
    case FieldDescriptor::CPPTYPE_UINT32:
      MIRRORSD_SET(UInt32, static_cast<uint32_t>(Number(now, random)))
    case FieldDescriptor::CPPTYPE_UINT64:
      MIRRORSD_SET(UInt64, Number(now, random))
    case FieldDescriptor::CPPTYPE_FLOAT:
      MIRRORSD_SET(Float, static_cast<float>(Real(now, random)))
    case FieldDescriptor::CPPTYPE_DOUBLE:
      MIRRORSD_SET(Double, Real(now, random))
    case FieldDescriptor::CPPTYPE_BOOL:
      MIRRORSD_SET(Bool, !now)
    case FieldDescriptor::CPPTYPE_ENUM:
      MIRRORSD_SET(EnumValue, static_cast<int>(Number(static_cast<uint64_t>(now), random) % 8))
    case FieldDescriptor::CPPTYPE_STRING:
      MIRRORSD_SET(String, Text(now, random))
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return;
  }
#undef MIRRORSD_SET
}

void MutateRepeated(Message* message, const FieldDescriptor* field, Random* random) {
  const Reflection* reflection = message->GetReflection();
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const int size = reflection->FieldSize(*message, field);
  const int index = size > 0 ? static_cast<int>((*random)() % size) : 0;
  switch ((*random)() % 8) {
    case 0:
      if (size > 0) reflection->RemoveLast(message, field);
      return;
    case 1:
      if (size > 1) reflection->SwapElements(message, field, index, size - 1);
      return;
    case 2:  // an entry once more
      if (size > 0 && is_message) {
        const std::unique_ptr<Message> copy(
            reflection->GetRepeatedMessage(*message, field, index).New());
        copy->CopyFrom(reflection->GetRepeatedMessage(*message, field, index));
        reflection->AddMessage(message, field)->CopyFrom(*copy);
        return;
      }
      [[fallthrough]];
    case 3:
      if (is_message) {
        MutateMessage(reflection->AddMessage(message, field), random);
      } else {
        for (uint64_t i = (*random)() % 16 == 0 ? 300 : 1; i > 0; --i) {
          SetScalar(message, field, reflection->FieldSize(*message, field), random);
        }
      }
      return;
    default:
      if (size == 0 && is_message) {
        MutateMessage(reflection->AddMessage(message, field), random);
      } else if (is_message) {
        MutateMessage(reflection->MutableRepeatedMessage(message, field, index), random);
      } else {
        SetScalar(message, field, index, random);
      }
  }
}

}  // namespace

size_t MutateBytes(uint8_t* data, size_t size, size_t max_size) {
  return LLVMFuzzerMutate(data, size, max_size);
}

void MutateMessage(Message* message, Random* random) {
  const auto* descriptor = message->GetDescriptor();
  if (descriptor->field_count() == 0) return;
  const Reflection* reflection = message->GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection->ListFields(*message, &present);
  // Mostly what is there: deep messages are reached by going down into them.
  const FieldDescriptor* field =
      !present.empty() && (*random)() % 4 != 0
          ? present[(*random)() % present.size()]
          : descriptor->field(static_cast<int>((*random)() % descriptor->field_count()));
  if (field->is_repeated()) return MutateRepeated(message, field, random);
  if ((*random)() % 16 == 0) return reflection->ClearField(message, field);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    MutateMessage(reflection->MutableMessage(message, field), random);
  } else {
    SetScalar(message, field, 0, random);
  }
}

size_t MutateTagged(uint8_t* data, size_t size, size_t max_size, unsigned seed,
                    const std::function<std::unique_ptr<Message>(uint8_t)>& make) {
  Random random(seed);
  if (size == 0) data[size++] = static_cast<uint8_t>(random());
  if (random() % 64 == 0) data[0] = static_cast<uint8_t>(random() % 16);
  const std::unique_ptr<Message> message = make(data[0]);
  google::protobuf::LogSilencer silence;
  if (message == nullptr || random() % 16 == 0 ||
      !message->ParseFromArray(data + 1, static_cast<int>(size - 1))) {
    return MutateBytes(data, size, max_size);
  }
  for (uint64_t times = 1 + random() % 3; times > 0; --times) MutateMessage(message.get(), &random);
  const std::string bytes = message->SerializePartialAsString();
  if (bytes.size() + 1 > max_size) return MutateBytes(data, size, max_size);
  bytes.copy(reinterpret_cast<char*>(data) + 1, bytes.size());
  return bytes.size() + 1;
}

}  // namespace mirrorsd::fuzz

// Strings that are no UTF-8 would fill the log.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  return 0;
}
