// The network between hosts that are network namespaces of one machine: a TUN device in each, and this program as
// the wire. It delays, jitters, loses, reorders and throttles packets of each directed link as it is told. For
// kernels without netem. No router: it looks at a packet's destination address and nothing else.
//
//   tun_relay [--seed N] NAMESPACE=IPV4 ...
//
// makes the device tun0 in each namespace (/run/netns/NAMESPACE; addresses and routes are the caller's to set) and
// prints "ready". Then each line of stdin is a command, answered by "ok" or by what was asked:
//
//   link FROM TO [delay_ms=X] [jitter_ms=X] [loss=P] [reorder=P] [rate_mbit=X]
//       one direction; * is any host; what is not said is none
//   stats      {"passed": N, "lost": N, "overflown": N}
//
// Ends with its stdin. Delay is delay_ms +- up to jitter_ms, in order but for the share `reorder`, which comes
// earlier than it should; what waits on a link is bounded, and the rest lost.
// Thread rule: one thread.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <queue>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mirrorsd {
namespace {

using Clock = std::chrono::steady_clock;
using Duration = std::chrono::duration<double>;

constexpr size_t kMostPacketBytes = 65536;
constexpr size_t kMostWaitingBytes = 8 << 20;  // of one directed link

struct Host {
  std::string name;
  uint32_t address = 0;  // in network order
  int device = -1;
};

struct Link {
  double delay_s = 0, jitter_s = 0, loss = 0, reorder = 0, bytes_per_second = 0;
  Clock::time_point free_at{};   // when the last packet has left the sender
  Clock::time_point last_due{};  // no packet in order comes before this
  size_t waiting_bytes = 0;
};

struct Packet {
  Clock::time_point due;
  uint64_t ordinal;  // among equals, first come first
  size_t from, to;
  std::string bytes;
  bool operator>(const Packet& other) const {
    return std::tie(due, ordinal) > std::tie(other.due, other.ordinal);
  }
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "tun_relay: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// The new device tun0 of the namespace; this thread is there afterwards.
int OpenDevice(const std::string& name) {
  const int home = open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (home < 0 || setns(home, CLONE_NEWNET) != 0) Fail("namespace " + name);
  close(home);
  const int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) Fail("/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::snprintf(request.ifr_name, sizeof(request.ifr_name), "tun0");
  if (ioctl(device, TUNSETIFF, &request) != 0) Fail("TUNSETIFF in " + name);
  return device;
}

class Relay {
 public:
  Relay(std::vector<Host> hosts, uint64_t seed) : hosts_(std::move(hosts)), random_(seed) {}

  // Until stdin ends.
  void Run() {
    std::vector<pollfd> waiting;
    for (const Host& host : hosts_) waiting.push_back({host.device, POLLIN, 0});
    waiting.push_back({STDIN_FILENO, POLLIN, 0});
    while (true) {
      const timespec patience = Patience();
      if (ppoll(waiting.data(), waiting.size(), &patience, nullptr) < 0 && errno != EINTR) {
        Fail("ppoll");
      }
      Deliver();
      for (size_t i = 0; i < hosts_.size(); ++i) {
        if (waiting[i].revents != 0) Receive(i);
      }
      if (waiting.back().revents != 0 && !ReadCommands()) return;
    }
  }

 private:
  timespec Patience() const {
    if (packets_.empty()) return {3600, 0};
    const auto left = std::max(packets_.top().due - Clock::now(), Clock::duration::zero());
    const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    return {nanos / 1'000'000'000, nanos % 1'000'000'000};
  }

  void Deliver() {
    const Clock::time_point now = Clock::now();
    while (!packets_.empty() && packets_.top().due <= now) {
      const Packet& packet = packets_.top();
      links_[{packet.from, packet.to}].waiting_bytes -= packet.bytes.size();
      // Refused where the device is down: so it is with a cut cable.
      const bool arrived =
          write(hosts_[packet.to].device, packet.bytes.data(), packet.bytes.size()) > 0;
      ++(arrived ? passed_ : lost_);
      packets_.pop();
    }
  }

  void Receive(size_t from) {
    char bytes[kMostPacketBytes];
    for (int i = 0; i < 64; ++i) {  // then it is the others' turn
      const ssize_t size = read(hosts_[from].device, bytes, sizeof(bytes));
      if (size <= 0) return;
      Forward(from, std::string(bytes, static_cast<size_t>(size)));
    }
  }

  void Forward(size_t from, std::string bytes) {
    if (bytes.size() < 20 || (bytes[0] >> 4) != 4) return;  // IPv6 has no place here
    uint32_t address = 0;
    std::memcpy(&address, bytes.data() + 16, sizeof(address));
    const auto found = std::find_if(hosts_.begin(), hosts_.end(),
                                    [address](const Host& host) { return host.address == address; });
    if (found == hosts_.end()) return;
    const size_t to = static_cast<size_t>(found - hosts_.begin());
    Link& link = links_[{from, to}];
    if (Chance(link.loss)) {
      ++lost_;
      return;
    }
    if (link.waiting_bytes + bytes.size() > kMostWaitingBytes) {
      ++overflown_;
      return;
    }
    link.waiting_bytes += bytes.size();
    const Clock::time_point due = DueTime(&link, bytes.size());
    packets_.push({due, next_ordinal_++, from, to, std::move(bytes)});
  }

  Clock::time_point DueTime(Link* link, size_t num_bytes) {
    const auto in = [](double seconds) {
      return std::chrono::duration_cast<Clock::duration>(Duration(std::max(seconds, 0.0)));
    };
    link->free_at = std::max(link->free_at, Clock::now());
    if (link->bytes_per_second > 0) {
      link->free_at += in(static_cast<double>(num_bytes) / link->bytes_per_second);
    }
    if (Chance(link->reorder)) return link->free_at + in(link->delay_s * Uniform());
    const double jitter = link->jitter_s * (2 * Uniform() - 1);
    link->last_due = std::max(link->last_due, link->free_at + in(link->delay_s + jitter));
    return link->last_due;
  }

  double Uniform() { return std::uniform_real_distribution<double>()(random_); }
  bool Chance(double share) { return share > 0 && Uniform() < share; }

  // False at the end of stdin.
  bool ReadCommands() {
    char bytes[4096];
    const ssize_t size = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (size <= 0) return false;
    typed_.append(bytes, static_cast<size_t>(size));
    for (size_t end; (end = typed_.find('\n')) != std::string::npos;) {
      Answer(typed_.substr(0, end));
      typed_.erase(0, end + 1);
    }
    return true;
  }

  void Answer(const std::string& line) {
    std::istringstream words(line);
    std::string command, from, to, setting;
    words >> command;
    if (command == "stats") {
      std::printf("{\"passed\": %llu, \"lost\": %llu, \"overflown\": %llu}\n",
                  static_cast<unsigned long long>(passed_), static_cast<unsigned long long>(lost_),
                  static_cast<unsigned long long>(overflown_));
    } else if (command == "link" && words >> from >> to) {
      Link wanted;
      bool understood = true;
      while (words >> setting) understood = Set(setting, &wanted) && understood;
      if (understood) Apply(from, to, wanted);
      std::puts(understood ? "ok" : "not understood");
    } else {
      std::puts("not understood");
    }
    std::fflush(stdout);
  }

  static bool Set(const std::string& setting, Link* link) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) return false;
    const std::string name = setting.substr(0, equals);
    const double value = std::atof(setting.c_str() + equals + 1);
    if (name == "delay_ms") {
      link->delay_s = value / 1e3;
    } else if (name == "jitter_ms") {
      link->jitter_s = value / 1e3;
    } else if (name == "loss") {
      link->loss = value;
    } else if (name == "reorder") {
      link->reorder = value;
    } else if (name == "rate_mbit") {
      link->bytes_per_second = value * 1e6 / 8;
    } else {
      return false;
    }
    return true;
  }

  void Apply(const std::string& from, const std::string& to, const Link& wanted) {
    for (size_t i = 0; i < hosts_.size(); ++i) {
      for (size_t j = 0; j < hosts_.size(); ++j) {
        if (i == j || (from != "*" && from != hosts_[i].name) ||
            (to != "*" && to != hosts_[j].name)) {
          continue;
        }
        Link& link = links_[{i, j}];
        const size_t waiting_bytes = link.waiting_bytes;
        link = wanted;
        link.waiting_bytes = waiting_bytes;  // what is on its way arrives as it would have
      }
    }
  }

  const std::vector<Host> hosts_;
  std::mt19937_64 random_;
  std::map<std::pair<size_t, size_t>, Link> links_;
  std::priority_queue<Packet, std::vector<Packet>, std::greater<>> packets_;
  uint64_t next_ordinal_ = 0, passed_ = 0, lost_ = 0, overflown_ = 0;
  std::string typed_;
};

int Main(int argc, char** argv) {
  uint64_t seed = 1;
  std::vector<Host> hosts;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
      continue;
    }
    const size_t equals = word.find('=');
    Host host;
    if (equals == std::string::npos ||
        inet_pton(AF_INET, word.c_str() + equals + 1, &host.address) != 1) {
      std::fprintf(stderr, "usage: tun_relay [--seed N] NAMESPACE=IPV4 ...\n");
      return 2;
    }
    host.name = word.substr(0, equals);
    host.device = OpenDevice(host.name);
    hosts.push_back(std::move(host));
  }
  std::puts("ready");
  std::fflush(stdout);
  Relay(std::move(hosts), seed).Run();
  return 0;
}

}  // namespace
}  // namespace mirrorsd

int main(int argc, char** argv) { return mirrorsd::Main(argc, argv); }
