#pragma once
// Metrics of one process: counters, gauges and histograms by name, served as Prometheus text. This
// header hides prometheus-cpp, which is seen by metrics.cc alone. What the metrics are called and when
// they move stands in scheduler_metrics.h and gateway_metrics.h, not here.
// Thread-safe. Handles are plain pointers and stay valid as long as their MetricRegistry.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
template <typename T>
class Family;
}  // namespace prometheus

namespace mirrorsd::telemetry {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  Counter() = default;
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  void Increment(double by = 1) const;
  // Raises the counter to a total that is kept elsewhere; a smaller total changes nothing. One thread only.
  void AdvanceTo(double total) const;
  double Value() const;

 private:
  prometheus::Counter* counter_ = nullptr;  // none: what is told is dropped
};

class Gauge {
 public:
  Gauge() = default;
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) const;
  void Add(double by) const;
  double Value() const;

 private:
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram {
 public:
  Histogram() = default;
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value) const;
  // The same value so many times.
  void Observe(double value, int64_t times) const;

 private:
  prometheus::Histogram* histogram_ = nullptr;
};

// A name whose label values are known only while running. With() finds or makes the metric; it takes a
// lock, so a handle for a hot path is fetched once.
class CounterFamily {
 public:
  CounterFamily() = default;
  CounterFamily(prometheus::Family<prometheus::Counter>* family, Labels fixed)
      : family_(family), fixed_(std::move(fixed)) {}
  Counter With(const Labels& labels) const;

 private:
  prometheus::Family<prometheus::Counter>* family_ = nullptr;
  Labels fixed_;
};

class GaugeFamily {
 public:
  GaugeFamily() = default;
  GaugeFamily(prometheus::Family<prometheus::Gauge>* family, Labels fixed)
      : family_(family), fixed_(std::move(fixed)) {}
  Gauge With(const Labels& labels) const;

 private:
  prometheus::Family<prometheus::Gauge>* family_ = nullptr;
  Labels fixed_;
};

class HistogramFamily {
 public:
  HistogramFamily() = default;
  HistogramFamily(prometheus::Family<prometheus::Histogram>* family, Labels fixed,
                  std::vector<double> buckets)
      : family_(family), fixed_(std::move(fixed)), buckets_(std::move(buckets)) {}
  Histogram With(const Labels& labels) const;

 private:
  prometheus::Family<prometheus::Histogram>* family_ = nullptr;
  Labels fixed_;
  std::vector<double> buckets_;
};

// Upper bounds, in seconds: from a round of a small model to a long request.
std::vector<double> RoundSecondsBuckets();
std::vector<double> RequestSecondsBuckets();
// Of a message that should take less than 250 us; narrow enough to read a quantile from.
std::vector<double> RelaySecondsBuckets();
// Tokens of a branch, 1 to the longest window.
std::vector<double> BranchDepthBuckets();

class MetricRegistry {
 public:
  MetricRegistry();
  ~MetricRegistry();
  MetricRegistry(const MetricRegistry&) = delete;
  MetricRegistry& operator=(const MetricRegistry&) = delete;

  // Names go without the prefix mirrorsd_, which is added. The same name again gives the same family;
  // it must come with the same help. `fixed` labels are on every metric of the returned family.
  CounterFamily Counters(const std::string& name, const std::string& help, Labels fixed = {});
  GaugeFamily Gauges(const std::string& name, const std::string& help, Labels fixed = {});
  HistogramFamily Histograms(const std::string& name, const std::string& help,
                             std::vector<double> buckets, Labels fixed = {});

  // Prometheus text format, version 0.0.4.
  std::string Serialize() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Joins several expositions into one in which each name stands once with all its metrics, as
// the format demands. Texts that tell the same (name, labels) twice are the caller's mistake.
std::string MergeExpositions(const std::vector<std::string>& texts);

}  // namespace mirrorsd::telemetry
