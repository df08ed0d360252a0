#include "services/cell/processes/reserved_places.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/cell/exit_code.h"
#include "services/cell/role_options.h"

namespace mirrorsd::cell {

PrivateFolder::PrivateFolder() {
  // A socket's path has 107 bytes at most: a long TMPDIR will not do.
  const char* base = std::getenv("TMPDIR");
  std::string name = base != nullptr && std::string(base).size() < 60 ? base : "/tmp";
  name += "/mirrorsd-XXXXXX";
  if (mkdtemp(name.data()) != nullptr) path_ = name;
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

ReservedPort::~ReservedPort() {
  if (fd_ >= 0) close(fd_);
}

absl::Status ReservedPort::Reserve(const std::string& option, const std::string& host, int64_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return UsageError("--host", absl::StrCat("'", host, "' is no known host"));
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  const int reuse = 1;
  fd_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool good = fd_ >= 0 &&
                    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) == 0 &&
                    bind(fd_, found->ai_addr, found->ai_addrlen) == 0 &&
                    getsockname(fd_, reinterpret_cast<sockaddr*>(&bound), &size) == 0;
  freeaddrinfo(found);
  if (!good) {
    return InvalidField(option, absl::StrCat("cannot listen on ", HostPort(host, port), ": ",
                                             std::strerror(errno)));
  }
  port_ = ntohs(bound.ss_family == AF_INET6
                    ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                    : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return absl::OkStatus();
}

}  // namespace mirrorsd::cell
