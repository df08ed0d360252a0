#pragma once
// HTTP/2 by hand, for clients that no library would be: frames with whatever is in them over a socket of their own.
// Header blocks are literals without index or Huffman code. One thread each.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"

namespace mirrorsd::testing {

namespace http2 {

inline constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum Type : uint8_t {
  kData = 0, kHeaders, kPriority, kRstStream, kSettings, kPushPromise, kPing, kGoAway,
  kWindowUpdate, kContinuation
};
inline constexpr uint8_t kEndStream = 1;
inline constexpr uint8_t kEndHeaders = 4;
inline constexpr uint8_t kPadded = 8;

inline std::string BigEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 255);
  return text;
}

inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  return BigEndian(payload.size(), 3) + static_cast<char>(type) + static_cast<char>(flags) +
         BigEndian(stream, 4) + payload;
}

inline std::string Setting(uint16_t id, uint32_t value) {
  return BigEndian(id, 2) + BigEndian(value, 4);
}

using Headers = std::vector<std::pair<std::string, std::string>>;

inline std::string HpackInteger(size_t value) {  // with a prefix of 7 bits
  if (value < 127) return std::string(1, static_cast<char>(value));
  std::string text(1, 127);
  for (value -= 127; value >= 128; value /= 128) text += static_cast<char>(128 | (value & 127));
  return text + static_cast<char>(value);
}

inline std::string Hpack(const Headers& headers) {
  std::string block;
  for (const auto& [name, value] : headers) {
    block += '\0';
    block += HpackInteger(name.size()) + name + HpackInteger(value.size()) + value;
  }
  return block;
}

// What a gRPC client sends, with `change` put over it: an empty value drops the header.
inline Headers GrpcHeaders(const std::string& path, const Headers& change = {}) {
  Headers headers = {{":method", "POST"}, {":scheme", "http"}, {":path", path},
                     {":authority", "a"}, {"te", "trailers"},
                     {"content-type", "application/grpc"}};
  for (const auto& [name, value] : change) {
    std::erase_if(headers, [&](const auto& header) { return header.first == name; });
    if (!value.empty()) headers.emplace_back(name, value);
  }
  return headers;
}

// One gRPC message: flag, length, bytes.
inline std::string GrpcMessage(const std::string& bytes) {
  return std::string(1, '\0') + BigEndian(bytes.size(), 4) + bytes;
}

}  // namespace http2

class RawConnection {
 public:
  explicit RawConnection(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    CHECK_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  RawConnection(RawConnection&& other) : fd_(std::exchange(other.fd_, -1)) {}
  ~RawConnection() {
    if (fd_ >= 0) close(fd_);
  }

  // Preface and settings, then whatever is said.
  void Greet(const std::string& settings = "") {
    Send(http2::kPreface + http2::Frame(http2::kSettings, 0, 0, settings));
  }

  // False where the peer has closed; what it does not take within five seconds is not sent either.
  bool Send(const std::string& bytes) {
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }

  // What comes until `end` is in it, the peer closes, or `patience_ms` passes without a byte.
  std::string ReadUntil(const std::string& end, int patience_ms) {
    const timeval patience{.tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    std::string text;
    char chunk[65536];
    while (end.empty() || text.find(end) == std::string::npos) {
      const ssize_t n = recv(fd_, chunk, sizeof(chunk), 0);
      if (n <= 0) break;
      text.append(chunk, static_cast<size_t>(n));
    }
    return text;
  }

 private:
  int fd_;
};

// Resident bytes of this process.
inline int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  CHECK(file != nullptr);
  long long total = 0, resident = 0;
  CHECK_EQ(std::fscanf(file, "%lld %lld", &total, &resident), 2);
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace mirrorsd::testing
