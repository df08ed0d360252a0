#pragma once
// What the sockets of a cell of child processes need: a private folder and ports that stay ours while children come
// and go. Not thread-safe.

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace mirrorsd::cell {

// A folder of our own for the sockets between the children; it goes with this object.
class PrivateFolder {
 public:
  PrivateFolder();
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;

  bool ok() const { return !path_.empty(); }
  std::string Socket(const std::string& name) const { return "unix:" + path_ + "/" + name; }

 private:
  std::string path_;
};

// A port that is ours as long as this lives, 0 having become a free one: a restarted child must find the same
// again, and nobody else may be given it meanwhile. The socket is bound but does not listen, so that a
// child, which allows reuse as we do, can.
class ReservedPort {
 public:
  ReservedPort() = default;
  ~ReservedPort();
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  // Errors:  INVALID_FIELD that names `option`, or the host
  absl::Status Reserve(const std::string& option, const std::string& host, int64_t port);
  int64_t port() const { return port_; }

 private:
  int fd_ = -1;
  int64_t port_ = 0;
};

}  // namespace mirrorsd::cell
