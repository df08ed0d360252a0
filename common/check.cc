#include "common/check.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace mirrorsd {
namespace {

std::mutex handler_mutex;
std::function<void()>& Handler() {
  static auto* handler = new std::function<void()>;
  return *handler;
}

}  // namespace

void SetCheckFailureHandler(std::function<void()> last_words) {
  std::lock_guard<std::mutex> lock(handler_mutex);
  Handler() = std::move(last_words);
}

namespace check_internal {

Failure::Failure(const char* file, int line, const char* condition) {
  stream_ << file << ":" << line << ": CHECK failed: " << condition << " ";
}

Failure::~Failure() {
  std::fprintf(stderr, "%s\n", stream_.str().c_str());
  std::function<void()> last_words;
  {
    std::lock_guard<std::mutex> lock(handler_mutex);
    std::swap(last_words, Handler());
  }
  if (last_words) last_words();
  std::abort();
}

}  // namespace check_internal
}  // namespace mirrorsd
