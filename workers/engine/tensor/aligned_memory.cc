#include "workers/engine/tensor/aligned_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace mirrorsd::engine {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

std::shared_ptr<void> MapHuge(int64_t size_bytes) {
  // One page more, so that the start can be moved to a huge page's boundary.
  const size_t mapped_bytes = static_cast<size_t>(size_bytes + kHugePageBytes);
  void* base = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<uintptr_t>(base);
  const uintptr_t aligned = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  auto* start = static_cast<char*>(base) + (aligned - address);
  madvise(start, static_cast<size_t>(size_bytes), MADV_HUGEPAGE);  // a hint: may fail
  return std::shared_ptr<void>(start, [base, mapped_bytes](void*) { munmap(base, mapped_bytes); });
}

}  // namespace

std::shared_ptr<void> AllocateAligned(int64_t size_bytes) {
  if (size_bytes < 0 || size_bytes > INT64_MAX / 2) return nullptr;
  if (size_bytes >= kHugePageBytes) return MapHuge(size_bytes);
  const int64_t rounded = (size_bytes / kCacheLineBytes + 1) * kCacheLineBytes;
  void* memory = std::aligned_alloc(kCacheLineBytes, static_cast<size_t>(rounded));
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0, static_cast<size_t>(rounded));
  return std::shared_ptr<void>(memory, [](void* p) { std::free(p); });
}

}  // namespace mirrorsd::engine
