#include "services/journal/frame.h"

#include <zlib.h>

#include <algorithm>

namespace mirrorsd::journal {
namespace {

constexpr size_t kChunkBytes = 64 << 10;

void PutWord(uint32_t word, char* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(word >> (8 * i));
}

uint32_t GetWord(const char* in) {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= uint32_t{static_cast<unsigned char>(in[i])} << (8 * i);
  return word;
}

// A damaged length must not look like a record that the file's end cut off.
uint32_t LengthWord(uint32_t length) {
  return length | (((length * 0x9E3779B1u) >> 24) ^ 0xA5u) << 24;
}

uint32_t Checksum(const char* length_word, const char* record, size_t size) {
  uint32_t crc = static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(length_word), 4));
  return static_cast<uint32_t>(
      crc32(crc, reinterpret_cast<const Bytef*>(record), static_cast<uInt>(size)));
}

}  // namespace

bool MakeFrame(const google::protobuf::MessageLite& record, std::string* frame) {
  frame->clear();
  const size_t size = record.ByteSizeLong();
  if (size > kMaxRecordBytes) return false;
  frame->resize(kFrameHeadBytes + size);
  char* const bytes = frame->data();
  record.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(bytes + kFrameHeadBytes));
  PutWord(LengthWord(static_cast<uint32_t>(size)), bytes);
  PutWord(Checksum(bytes, bytes + kFrameHeadBytes, size), bytes + 4);
  return true;
}

// In chunks: what a length claims is not believed before it came.
size_t FrameReader::ReadUpTo(size_t num_bytes, std::string* out) {
  out->clear();
  while (out->size() < num_bytes) {
    const size_t before = out->size();
    const size_t wanted = std::min(num_bytes - before, kChunkBytes);
    out->resize(before + wanted);
    in_->read(out->data() + before, static_cast<std::streamsize>(wanted));
    const auto got = static_cast<size_t>(in_->gcount());
    out->resize(before + got);
    if (got < wanted) break;
  }
  offset_ += out->size();
  return out->size();
}

bool FrameReader::ReadMagic() {
  std::string magic;
  ReadUpTo(kMagic.size(), &magic);
  return magic == kMagic;
}

FrameReader::Result FrameReader::Read(std::string* record) {
  frame_offset_ = offset_;
  std::string head;
  const size_t got = ReadUpTo(kFrameHeadBytes, &head);
  if (got == 0) return Result::kEnd;
  if (got < kFrameHeadBytes) return Result::kTorn;
  const uint32_t length = GetWord(head.data()) & kMaxRecordBytes;
  if (GetWord(head.data()) != LengthWord(length)) return Result::kDamaged;
  if (ReadUpTo(length, record) < length) return Result::kTorn;
  if (GetWord(head.data() + 4) != Checksum(head.data(), record->data(), length)) {
    return Result::kDamaged;
  }
  return Result::kFrame;
}

}  // namespace mirrorsd::journal
