#include "workers/engine/model/loader/strict_json.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::engine {
namespace {

using nlohmann::json;

// Builds the document and stops at the first thing that is not allowed.
class Builder : public nlohmann::json_sax<json> {
 public:
  Builder(absl::string_view path, const JsonLimits& limits) : path_(path), limits_(limits) {}

  bool null() override { return Add(json(nullptr)); }
  bool boolean(bool value) override { return Add(json(value)); }
  bool number_integer(number_integer_t value) override { return Add(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Add(json(value)); }
  bool string(string_t& value) override { return Add(json(std::move(value))); }
  bool binary(binary_t&) override { return Fail("holds binary data", ""); }

  bool start_object(size_t) override { return Open(json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (open_.back()->contains(key)) {
      return Fail(absl::StrCat("the key \"", key.substr(0, 200), "\" is there twice"),
                  "each key once");
    }
    key_ = std::move(key);
    return Count();
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("is not JSON (at byte ", position, ")"), "");
  }

  absl::Status status() const { return status_; }
  json TakeRoot() { return std::move(root_); }

 private:
  bool Fail(absl::string_view message, absl::string_view limit) {
    if (status_.ok()) status_ = BadFile(path_, message, limit);
    return false;
  }

  bool Count() {
    if (++num_values_ <= limits_.max_values) return true;
    return Fail("has too many values", absl::StrCat(limits_.max_values, " values"));
  }

  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    return &((*open_.back())[key_] = std::move(value));
  }

  bool Add(json value) {
    Place(std::move(value));
    return Count();
  }

  bool Open(json value) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return Fail("is nested too deep", absl::StrCat("depth ", limits_.max_depth));
    }
    // A reference into an array stays good while the element is open: nothing is added beside it.
    open_.push_back(Place(std::move(value)));
    return Count();
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  absl::string_view path_;
  const JsonLimits& limits_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
  size_t num_values_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<json> ParseStrictJson(absl::string_view path, absl::string_view text,
                                     const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return BadFile(path, absl::StrCat("has ", text.size(), " bytes of JSON"),
                   absl::StrCat("at most ", limits.max_bytes, " bytes"));
  }
  Builder builder(path, limits);
  const bool parsed = json::sax_parse(text.begin(), text.end(), &builder);
  if (!builder.status().ok()) return builder.status();
  if (!parsed) return BadFile(path, "is not JSON");
  return builder.TakeRoot();
}

}  // namespace mirrorsd::engine
