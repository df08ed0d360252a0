#pragma once
// A gRPC server of one service, reached in process, and small means to wait in tests.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "grpcpp/grpcpp.h"
#include "services/rpc/channel.h"

namespace mirrorsd::rpc {

class Loopback {
 public:
  explicit Loopback(grpc::Service* service) {
    grpc::ServerBuilder builder;
    ConfigureServer(&builder);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  ~Loopback() { Stop(); }

  std::shared_ptr<grpc::Channel> InProcess() { return server_->InProcessChannel({}); }
  ChannelFactory Factory() {
    return [this] { return InProcess(); };
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void Stop() {
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    server_->Wait();
  }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// State that callbacks change and a test waits for.
class Watched {
 public:
  template <typename Change>
  void Update(const Change& change) {
    std::lock_guard<std::mutex> lock(mutex_);
    change();
    changed_.notify_all();
  }

  // False after 20 s.
  bool WaitFor(const std::function<bool()>& good) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), good);
  }

  template <typename Read>
  auto Get(const Read& read) {
    std::lock_guard<std::mutex> lock(mutex_);
    return read();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace mirrorsd::rpc
