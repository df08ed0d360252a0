#include "common/check.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace mirrorsd {
namespace {

constexpr std::chrono::seconds kPatience(10);

std::mutex words_mutex;
uint64_t next_id = 1;
// By id; never destroyed, because threads may fail until the very end.
std::map<uint64_t, std::function<void()>>& Words() {
  static auto* words = new std::map<uint64_t, std::function<void()>>;
  return *words;
}

uint64_t Register(std::function<void()> words) {
  std::lock_guard<std::mutex> lock(words_mutex);
  Words()[next_id] = std::move(words);
  return next_id++;
}

std::atomic<bool> failing{false};
thread_local bool failing_here = false;

void SayLastWords() {
  if (failing_here) return;  // a CHECK within the last words
  failing_here = true;
  if (failing.exchange(true)) {
    std::this_thread::sleep_for(kPatience);  // the first one aborts for both of us
    return;
  }
  std::map<uint64_t, std::function<void()>> words;
  {
    std::lock_guard<std::mutex> lock(words_mutex);
    words.swap(Words());
  }
  for (auto last = words.rbegin(); last != words.rend(); ++last) last->second();
}

}  // namespace

LastWords::LastWords(std::function<void()> words) : id_(Register(std::move(words))) {}

LastWords::~LastWords() {
  std::lock_guard<std::mutex> lock(words_mutex);
  Words().erase(id_);
}

namespace check_internal {

Failure::Failure(const char* file, int line, const char* condition) {
  stream_ << file << ":" << line << ": CHECK failed: " << condition << " ";
}

Failure::~Failure() {
  std::fprintf(stderr, "%s\n", stream_.str().c_str());
  SayLastWords();
  std::abort();
}

}  // namespace check_internal
}  // namespace mirrorsd
