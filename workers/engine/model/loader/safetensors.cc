#include "workers/engine/model/loader/safetensors.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/loader/strict_json.h"

namespace mirrorsd::engine {
namespace {

using nlohmann::json;

constexpr StoredTypeInfo kTypes[] = {
    {StoredType::kF32, "F32", 4},      {StoredType::kF16, "F16", 2},
    {StoredType::kBf16, "BF16", 2},    {StoredType::kF64, "F64", 8},
    {StoredType::kI64, "I64", 8},      {StoredType::kI32, "I32", 4},
    {StoredType::kI16, "I16", 2},      {StoredType::kI8, "I8", 1},
    {StoredType::kU8, "U8", 1},        {StoredType::kBool, "BOOL", 1},
    {StoredType::kOther, "U16", 2},    {StoredType::kOther, "U32", 4},
    {StoredType::kOther, "U64", 8},    {StoredType::kOther, "F8_E4M3", 1},
    {StoredType::kOther, "F8_E5M2", 1}};

// Names come from the file: they are cut where a message quotes them.
std::string Quoted(absl::string_view name) {
  return absl::StrCat("tensor \"", name.substr(0, 200), "\"");
}

struct Entry {
  StoredTensor tensor;
  int64_t begin = 0;  // in the data
  int64_t end = 0;
};

bool ReadCount(const json& value, int64_t limit, int64_t* count) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(limit)) return false;
  *count = value.get<int64_t>();
  return *count >= 0 && *count <= limit;
}

// Shape and dtype of one header entry, and that its byte count fits them.
absl::StatusOr<Entry> ReadEntry(absl::string_view path, const std::string& name, const json& value,
                                int64_t data_bytes) {
  Entry entry;
  entry.tensor.name = name;
  entry.tensor.file = std::string(path);
  const auto wrong = [&](absl::string_view what, absl::string_view limit) {
    return BadFile(path, absl::StrCat(Quoted(name), " ", what), limit);
  };
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    return wrong("is not described by dtype, shape and data_offsets", "exactly these three");
  }
  const json& dtype = value["dtype"];
  const StoredTypeInfo* type =
      dtype.is_string() ? FindStoredType(dtype.get_ref<const std::string&>()) : nullptr;
  if (type == nullptr) {
    return wrong(absl::StrCat("has the unknown dtype ", dtype.dump(-1, ' ', true).substr(0, 40)),
                 "a dtype of the safetensors format");
  }
  entry.tensor.type = type->type;
  entry.tensor.type_name = type->name;
  const json& shape = value["shape"];
  if (!shape.is_array() || shape.size() > kMaxTensorRank) {
    return wrong("has no usable shape", absl::StrCat("a list of at most ", kMaxTensorRank, " sizes"));
  }
  for (const json& size : shape) {
    int64_t count = 0;
    if (!ReadCount(size, kMaxTensorElements, &count)) {
      return wrong("has a size in its shape that is out of range",
                   absl::StrCat("0 to ", kMaxTensorElements));
    }
    entry.tensor.shape.push_back(count);
  }
  const int64_t elements = NumElements(entry.tensor.shape);
  if (elements < 0) {
    return wrong(absl::StrCat("has too many elements, shape ", ShapeText(entry.tensor.shape)),
                 absl::StrCat("at most ", kMaxTensorElements));
  }
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !ReadCount(offsets[0], data_bytes, &entry.begin) ||
      !ReadCount(offsets[1], data_bytes, &entry.end) || entry.begin > entry.end) {
    return wrong(absl::StrCat("has data_offsets that are out of range: ",
                              offsets.dump(-1, ' ', true).substr(0, 60)),
                 absl::StrCat("0 to the ", data_bytes, " bytes of data, in order"));
  }
  const int64_t needed = elements * type->bytes_per_element;
  if (entry.end - entry.begin != needed) {
    return wrong(absl::StrCat("holds ", entry.end - entry.begin, " bytes, its dtype ", type->name,
                              " and shape ", ShapeText(entry.tensor.shape), " need ", needed),
                 absl::StrCat(needed, " bytes"));
  }
  return entry;
}

// That the tensors cover the data: each byte once.
absl::Status CheckCover(absl::string_view path, std::vector<Entry>* entries, int64_t data_bytes) {
  std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  for (const Entry& entry : *entries) {
    if (entry.begin == covered) {
      covered = entry.end;
      continue;
    }
    const bool overlap = entry.begin < covered;
    return BadFile(path,
                   absl::StrCat(Quoted(entry.tensor.name), " begins at byte ", entry.begin, " and ",
                                overlap ? "overlaps the one before it" : "leaves a gap",
                                ", which ends at ", covered),
                   "tensors lie one after another");
  }
  if (covered != data_bytes) {
    return BadFile(path, absl::StrCat("has ", data_bytes, " bytes of data, its tensors cover ", covered),
                   absl::StrCat(covered, " bytes"));
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ReadHeader(absl::string_view path, absl::Span<const uint8_t> bytes,
                                uint64_t* header_bytes) {
  if (bytes.size() < 8) {
    return BadFile(path, absl::StrCat("has ", bytes.size(), " bytes, too few for a safetensors file"),
                   "at least 8 bytes");
  }
  *header_bytes = 0;
  for (int i = 7; i >= 0; --i) *header_bytes = *header_bytes << 8 | bytes[i];
  if (*header_bytes > kMaxSafetensorsHeaderBytes) {
    return BadFile(path, absl::StrCat("says that its header has ", *header_bytes, " bytes"),
                   absl::StrCat("at most ", kMaxSafetensorsHeaderBytes, " bytes"));
  }
  if (*header_bytes > bytes.size() - 8) {
    return BadFile(path,
                   absl::StrCat("is cut off: its header has ", *header_bytes, " bytes, ",
                                bytes.size() - 8, " are there"),
                   absl::StrCat("at least ", *header_bytes + 8, " bytes"));
  }
  const absl::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, *header_bytes);
  JsonLimits limits;
  limits.max_bytes = kMaxSafetensorsHeaderBytes;
  limits.max_depth = 4;
  limits.max_values = 4'000'000;
  absl::StatusOr<json> header = ParseStrictJson(path, text, limits);
  if (header.ok() && !header->is_object()) return BadFile(path, "has a header that is not an object");
  return header;
}

}  // namespace

const StoredTypeInfo* FindStoredType(absl::string_view name) {
  for (const StoredTypeInfo& info : kTypes) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

const StoredTypeInfo& GetStoredTypeInfo(StoredType type) {
  for (const StoredTypeInfo& info : kTypes) {
    if (info.type == type) return info;
  }
  CHECK(false) << "no such type";
  return kTypes[0];
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

int64_t NumElements(absl::Span<const int64_t> shape) {
  int64_t elements = 1;
  for (int64_t size : shape) {
    if (size < 0 || size > kMaxTensorElements) return -1;
    // Both are at most 2^40, so their product is looked at before it is made.
    if (size != 0 && elements > kMaxTensorElements / size) return -1;
    elements *= size;
  }
  return elements;
}

absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(absl::string_view path,
                                                           absl::Span<const uint8_t> bytes) {
  uint64_t header_bytes = 0;
  absl::StatusOr<json> header = ReadHeader(path, bytes, &header_bytes);
  if (!header.ok()) return header.status();
  const absl::Span<const uint8_t> data = bytes.subspan(8 + header_bytes);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return BadFile(path, "has a __metadata__ that is not an object");
      continue;
    }
    absl::StatusOr<Entry> entry = ReadEntry(path, name, value, static_cast<int64_t>(data.size()));
    if (!entry.ok()) return entry.status();
    entries.push_back(*std::move(entry));
  }
  absl::Status covered = CheckCover(path, &entries, static_cast<int64_t>(data.size()));
  if (!covered.ok()) return covered;
  std::vector<StoredTensor> tensors;
  for (Entry& entry : entries) {
    entry.tensor.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.tensor));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  return tensors;
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ParseSafetensorsIndex(
    absl::string_view path, absl::string_view text) {
  JsonLimits limits;
  limits.max_bytes = kMaxSafetensorsHeaderBytes;
  limits.max_depth = 4;
  limits.max_values = 4'000'000;
  absl::StatusOr<json> index = ParseStrictJson(path, text, limits);
  if (!index.ok()) return index.status();
  if (!index->is_object() || !index->contains("weight_map") || !(*index)["weight_map"].is_object()) {
    return BadFile(path, "has no weight_map object");
  }
  std::vector<std::pair<std::string, std::string>> shards;
  for (const auto& [name, shard] : (*index)["weight_map"].items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    // It becomes a path: nothing that leads out of the folder.
    if (file.empty() || file.size() > 255 || file == "." || file == ".." ||
        file.find_first_of(absl::string_view("/\\\0", 3).data(), 0, 3) != std::string::npos) {
      return BadFile(path,
                     absl::StrCat(Quoted(name), " lies in ",
                                  shard.dump(-1, ' ', true, json::error_handler_t::replace)
                                      .substr(0, 100)),
                     "the name of a file in the same folder");
    }
    shards.emplace_back(name, file);
  }
  std::sort(shards.begin(), shards.end());
  return shards;
}

std::string MakeSafetensorsHeader(absl::Span<const StoredTensor> tensors) {
  json header = json::object();
  int64_t begin = 0;
  for (const StoredTensor& tensor : tensors) {
    CHECK(!header.contains(tensor.name)) << tensor.name << " twice";
    const StoredTypeInfo& info = GetStoredTypeInfo(tensor.type);
    const int64_t end = begin + NumElements(tensor.shape) * info.bytes_per_element;
    header[tensor.name] = {
        {"dtype", info.name}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that f32 data is aligned
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return bytes + text;
}

}  // namespace mirrorsd::engine
