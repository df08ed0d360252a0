#pragma once
// CHECK: for our own bugs only. Nothing that a peer, a file or a request sends may reach one; what the
// world does wrong is an absl::Status (common/error.h). A failed CHECK prints the place, the condition
// and the streamed message, runs the registered last words (the scheduler dumps its journal), and aborts.
// Thread-safe.

#include <functional>
#include <sstream>

namespace mirrorsd {

// Called once, from the failing thread, before the process aborts. Replaces an earlier one.
void SetCheckFailureHandler(std::function<void()> last_words);

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
