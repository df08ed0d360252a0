#pragma once
// CHECK: for our own bugs only. Nothing that a peer, a file or a request sends may reach one; what the
// world does wrong is an absl::Status (common/error.h). A failed CHECK prints the place, the condition
// and the streamed message, runs the registered last words (the scheduler dumps its ring of events), and
// aborts. Thread-safe.

#include <cstdint>
#include <functional>
#include <sstream>

namespace mirrorsd {

// What is to be said before the process aborts, for as long as this lives: called once, from the failing
// thread, whichever that is, the latest first. Ordinary code, not a signal handler's: it may allocate and
// write files, but a lock that the failing thread can hold it must not wait for. A second thread that fails
// meanwhile waits for its end; a CHECK that fails within it aborts at once.
class LastWords {
 public:
  explicit LastWords(std::function<void()> words);
  ~LastWords();
  LastWords(const LastWords&) = delete;
  LastWords& operator=(const LastWords&) = delete;

 private:
  const uint64_t id_;
};

namespace check_internal {

class Failure {
 public:
  Failure(const char* file, int line, const char* condition);
  [[noreturn]] ~Failure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) {}
};

}  // namespace check_internal
}  // namespace mirrorsd

#define CHECK(condition)                          \
  (__builtin_expect(!!(condition), 1))            \
      ? (void)0                                   \
      : ::mirrorsd::check_internal::Voidify() &   \
            ::mirrorsd::check_internal::Failure(__FILE__, __LINE__, #condition).stream()

#define CHECK_EQ(a, b) CHECK((a) == (b))
#define CHECK_NE(a, b) CHECK((a) != (b))
#define CHECK_LE(a, b) CHECK((a) <= (b))
#define CHECK_LT(a, b) CHECK((a) < (b))
#define CHECK_GE(a, b) CHECK((a) >= (b))
#define CHECK_GT(a, b) CHECK((a) > (b))
