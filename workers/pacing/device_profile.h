#pragma once
// The step times of a device that is not here, as data: what a layer, a head, a transfer and a pass cost by
// the number of rows. Not a device and not a clock: workers/pacing/device_pacer.h makes an engine last so
// long, and a simulator may ask the same functions. Plain data and pure functions, callable from any thread.
//
//   pass = pass_s + transfer_in + embedding_s + layers + head + transfer_out

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mirrorsd::pacing {

// Seconds by row count: straight lines between the points. Below the first point its value holds; beyond
// the last, the line of the last two goes on (one point: its value).
class RowTable {
 public:
  struct Point {
    int32_t rows = 0;  // increasing from point to point
    double seconds = 0;  // never falling
  };

  RowTable() = default;
  explicit RowTable(std::vector<Point> points) : points_(std::move(points)) {}

  const std::vector<Point>& points() const { return points_; }
  // 0 for no rows or an empty table.
  double Seconds(int64_t rows) const;

 private:
  std::vector<Point> points_;
};

struct TransferCost {
  double base_s = 0;
  double row_s = 0;  // each row, the first included

  double Seconds(int64_t rows) const { return base_s + row_s * static_cast<double>(rows); }
};

// One factor for each pass: exp(sigma * z), z from the counter noise of (seed, pass), of mean 0 and spread
// 1, never beyond 3.5. Its median is 1.
struct Jitter {
  double sigma = 0;
  uint64_t seed = 0;
};

// Where the figures of a profile come from.
enum class Basis : uint8_t { kDerived = 0, kPublished, kMeasured };

struct DeviceProfile {
  std::string name;
  std::string description;
  Basis basis = Basis::kDerived;
  std::map<std::string, std::string> sources;  // by the field that each explains

  int32_t num_layers = 0;   // of the emulated model; a real one of L layers stands for it by fractions
  double pass_s = 0;        // fixed, each pass: launching, waking up
  double embedding_s = 0;   // each pass
  RowTable layer;           // one layer, by the rows of the pass
  double kv_token_s = 0;    // one layer, each token whose keys and values it reads
  RowTable head;            // final norm and LM head, by the rows that ask for logits
  RowTable exit_head;       // the same after an inner layer
  TransferCost transfer_in;   // rows to the device, before the first layer
  TransferCost transfer_out;  // a head's results to the host
  Jitter jitter;

  double BeginSeconds(int64_t rows) const {
    return pass_s + transfer_in.Seconds(rows) + embedding_s;
  }
  // All layers.
  double LayersSeconds(int64_t rows, int64_t kv_tokens) const;
  // The head alone, without its transfer; 0 where no row asks.
  double HeadSeconds(int64_t logits_rows, bool is_final) const;
  // A whole pass with its final head, without jitter.
  double PassSeconds(int64_t rows, int64_t logits_rows, int64_t kv_tokens) const;
};

// The factor of one pass.
double JitterFactor(const Jitter& jitter, uint64_t pass_index);

// "derived", "published", "measured".
const char* NameOf(Basis basis);

}  // namespace mirrorsd::pacing
