#include "services/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>

#include "common/check.h"

namespace mirrorsd::telemetry {
namespace {

constexpr char kPrefix[] = "mirrorsd_";

std::map<std::string, std::string> Join(const Labels& fixed, const Labels& labels) {
  std::map<std::string, std::string> joined(labels.begin(), labels.end());
  joined.insert(fixed.begin(), fixed.end());  // a label of the metric's own wins
  return joined;
}

}  // namespace

void Counter::Increment(double by) const {
  if (counter_ != nullptr && by > 0) counter_->Increment(by);
}

void Counter::AdvanceTo(double total) const {
  if (counter_ != nullptr && total > counter_->Value()) {
    counter_->Increment(total - counter_->Value());
  }
}

double Counter::Value() const { return counter_ != nullptr ? counter_->Value() : 0; }

void Gauge::Set(double value) const {
  if (gauge_ != nullptr) gauge_->Set(value);
}

void Gauge::Add(double by) const {
  if (gauge_ != nullptr) gauge_->Increment(by);
}

double Gauge::Value() const { return gauge_ != nullptr ? gauge_->Value() : 0; }

void Histogram::Observe(double value) const {
  if (histogram_ != nullptr) histogram_->Observe(value);
}

void Histogram::Observe(double value, int64_t times) const {
  for (int64_t i = 0; i < times; ++i) Observe(value);
}

Counter CounterFamily::With(const Labels& labels) const {
  return Counter(family_ != nullptr ? &family_->Add(Join(fixed_, labels)) : nullptr);
}

Gauge GaugeFamily::With(const Labels& labels) const {
  return Gauge(family_ != nullptr ? &family_->Add(Join(fixed_, labels)) : nullptr);
}

Histogram HistogramFamily::With(const Labels& labels) const {
  return Histogram(family_ != nullptr ? &family_->Add(Join(fixed_, labels), buckets_) : nullptr);
}

std::vector<double> RoundSecondsBuckets() {
  return {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
          0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10};
}

std::vector<double> RequestSecondsBuckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
          2.5,   5,      10,    30,   60,    120,  300, 600};
}

std::vector<double> RelaySecondsBuckets() {
  return {0.00001, 0.00002, 0.00003, 0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.00025, 0.0003, 0.0004,
          0.0005,  0.00075, 0.001,   0.0015,  0.002,    0.003,  0.005,   0.01,   0.02,    0.05,   0.1,
          0.5};
}

std::vector<double> BranchDepthBuckets() { return {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64}; }

struct MetricRegistry::State {
  prometheus::Registry registry;
};

MetricRegistry::MetricRegistry() : state_(std::make_unique<State>()) {}
MetricRegistry::~MetricRegistry() = default;

CounterFamily MetricRegistry::Counters(const std::string& name, const std::string& help,
                                       Labels fixed) {
  return CounterFamily(
      &prometheus::BuildCounter().Name(kPrefix + name).Help(help).Register(state_->registry),
      std::move(fixed));
}

GaugeFamily MetricRegistry::Gauges(const std::string& name, const std::string& help, Labels fixed) {
  return GaugeFamily(
      &prometheus::BuildGauge().Name(kPrefix + name).Help(help).Register(state_->registry),
      std::move(fixed));
}

HistogramFamily MetricRegistry::Histograms(const std::string& name, const std::string& help,
                                           std::vector<double> buckets, Labels fixed) {
  CHECK(!buckets.empty()) << name;
  return HistogramFamily(
      &prometheus::BuildHistogram().Name(kPrefix + name).Help(help).Register(state_->registry),
      std::move(fixed), std::move(buckets));
}

std::string MetricRegistry::Serialize() const {
  std::vector<prometheus::MetricFamily> families = state_->registry.Collect();
  // A family that has no metric yet would be a heading without a body.
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace mirrorsd::telemetry
