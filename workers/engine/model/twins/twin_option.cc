#include "workers/engine/model/twins/twin_option.h"

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/error.h"
#include "workers/engine/model/twins/shapes.h"
#include "workers/engine/model/twins/twin_json.h"
#include "workers/engine/tensor/mapped_file.h"

namespace mirrorsd::engine {
namespace {

constexpr absl::string_view kPrefix = "twin:";
constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxOptionBytes = 4096;
constexpr absl::string_view kKeys[] = {"draft-layers", "exit-layer",    "agreement",    "exit-recall",
                                       "recall-top-k", "draft-damping", "exit-damping", "logit-scale",
                                       "seed",         "dtype"};

// Values of the keys as they are read; the first thing that is wrong is kept.
class Values {
 public:
  absl::Status Take(absl::string_view item) {
    const std::vector<absl::string_view> parts = absl::StrSplit(item, absl::MaxSplits('=', 1));
    const absl::string_view key = parts[0];
    bool known = false;
    for (const absl::string_view name : kKeys) known = known || key == name;
    if (!known) {
      return InvalidField("load-format", absl::StrCat("'", key.substr(0, 60), "' is no key of a twin"),
                          absl::StrJoin(kKeys, ", "));
    }
    if (parts.size() != 2 || parts[1].empty()) return InvalidField(key, "has no value", "key=value");
    if (!given_.insert(std::string(key)).second) return InvalidField(key, "is given twice", "once");
    return Read(key, parts[1]);
  }

  bool Has(absl::string_view key) const { return given_.count(std::string(key)) > 0; }

  // Into a spec: what was given replaces what was there.
  void Apply(TwinSpec* spec) const {
    if (Has("draft-layers")) spec->draft_layers = draft_layers_;
    if (Has("exit-layer")) spec->exit_layer = exit_layer_;
    if (Has("draft-damping")) spec->draft_damping = draft_damping_;
    if (Has("exit-damping")) spec->exit_damping = exit_damping_;
    if (Has("logit-scale")) spec->logit_scale = logit_scale_;
    if (Has("seed")) spec->seed = seed_;
    if (Has("dtype")) spec->type = type_;
  }

  absl::StatusOr<std::optional<TwinWish>> Wish() const {
    if (!Has("agreement")) {
      for (const char* key : {"exit-recall", "recall-top-k"}) {
        if (Has(key)) return InvalidField(key, "is given without agreement", "beside agreement");
      }
      return std::optional<TwinWish>();
    }
    for (const char* key : {"draft-damping", "exit-damping"}) {
      if (Has(key)) {
        return InvalidField(key, "is given beside agreement, which asks for factors to be found",
                            "one of the two");
      }
    }
    if (Has("recall-top-k") && !Has("exit-recall")) {
      return InvalidField("recall-top-k", "is given without exit-recall", "beside exit-recall");
    }
    TwinWish wish{.agreement = agreement_, .recall_top_k = recall_top_k_};
    if (Has("exit-recall")) wish.exit_recall = exit_recall_;
    return std::optional<TwinWish>(wish);
  }

 private:
  absl::Status Read(absl::string_view key, absl::string_view text) {
    if (key == "draft-layers") return Integer(key, text, 0, 1024, &draft_layers_);
    if (key == "exit-layer") return Integer(key, text, 1, 1024, &exit_layer_);
    if (key == "recall-top-k") {
      const absl::Status read = Integer(key, text, 1, kMaxRecallTopK, &recall_top_k_);
      return read.ok() && !IsRecallTopK(recall_top_k_) ? Wrong(key, text, "1, 2, 4 or 8") : read;
    }
    if (key == "agreement") return Number(key, text, 0, 1, &agreement_);
    if (key == "exit-recall") return Number(key, text, 0, 1, &exit_recall_);
    if (key == "draft-damping") return Number(key, text, 0, kMaxDamping, &draft_damping_);
    if (key == "exit-damping") return Number(key, text, 0, kMaxDamping, &exit_damping_);
    if (key == "logit-scale") return Number(key, text, 0.01, 100, &logit_scale_);
    if (key == "dtype") {
      if (text != "bf16" && text != "f32") return Wrong(key, text, "bf16 or f32");
      type_ = text == "f32" ? StoredType::kF32 : StoredType::kBf16;
      return absl::OkStatus();
    }
    if (!absl::SimpleAtoi(text, &seed_)) return Wrong(key, text, "0 to 2^64-1");
    return absl::OkStatus();
  }

  static absl::Status Wrong(absl::string_view key, absl::string_view text, absl::string_view limit) {
    return InvalidField(key, absl::StrCat("is '", text.substr(0, 60), "'"), limit);
  }

  static absl::Status Integer(absl::string_view key, absl::string_view text, int32_t lowest,
                              int32_t highest, int32_t* value) {
    if (absl::SimpleAtoi(text, value) && *value >= lowest && *value <= highest) {
      return absl::OkStatus();
    }
    return Wrong(key, text, absl::StrCat(lowest, " to ", highest));
  }

  static absl::Status Number(absl::string_view key, absl::string_view text, double lowest,
                             double highest, double* value) {
    if (absl::SimpleAtod(text, value) && std::isfinite(*value) && *value >= lowest &&
        *value <= highest) {
      return absl::OkStatus();
    }
    return Wrong(key, text, absl::StrCat(lowest, " to ", highest));
  }

  std::set<std::string> given_;
  int32_t draft_layers_ = 0, exit_layer_ = 0, recall_top_k_ = 1;
  double agreement_ = 0, exit_recall_ = 0, draft_damping_ = 1, exit_damping_ = 1, logit_scale_ = 4;
  uint64_t seed_ = 1;
  StoredType type_ = StoredType::kBf16;
};

absl::StatusOr<TwinSpec> TwinOfFile(const std::string& path) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path, kMaxFileBytes);
  if (!file.ok()) return file.status();
  const absl::string_view text(reinterpret_cast<const char*>(file->bytes().data()),
                               file->bytes().size());
  if (LooksLikeTwinJson(text)) {
    absl::StatusOr<TwinRecord> record = ReadTwinJson(path, text);
    if (!record.ok()) return record.status();
    return std::move(record->spec);
  }
  TwinSpec spec;
  spec.name = path;
  spec.config_json = std::string(text);
  return spec;
}

}  // namespace

bool IsTwinOption(absl::string_view text) { return absl::StartsWith(text, kPrefix); }

absl::string_view ShapeOfOption(absl::string_view text) {
  absl::ConsumePrefix(&text, kPrefix);
  return text.substr(0, text.find(','));
}

absl::StatusOr<TwinSpec> TwinOfShape(absl::string_view shape) {
  TwinSpec spec;
  if (const NamedShape* named = FindShape(shape)) {
    spec.name = named->name;
    spec.config_json = named->config;
  } else if (absl::EndsWith(shape, ".json")) {
    absl::StatusOr<TwinSpec> read = TwinOfFile(std::string(shape));
    if (!read.ok()) return read;
    spec = *std::move(read);
  } else {
    return InvalidField("load-format",
                        absl::StrCat("'", shape.substr(0, 60), "' is neither a shape nor a .json file"),
                        ShapeNames());
  }
  const absl::StatusOr<ModelConfig> config = ReadTwinConfig(spec);
  if (!config.ok()) return config.status();
  if (spec.exit_layer == 0) {  // not of a twin.json
    spec.draft_layers = DefaultDraftLayers(config->num_layers);
    spec.exit_layer = DefaultExitLayer(config->num_layers);
    spec.draft_damping = spec.exit_damping = kDefaultDamping;
  }
  if (absl::Status checked = CheckTwin(spec); !checked.ok()) return checked;
  return spec;
}

absl::StatusOr<TwinRequest> ParseTwinOption(absl::string_view text) {
  if (text.size() > kMaxOptionBytes) {
    return InvalidField("load-format", absl::StrCat("has ", text.size(), " bytes"),
                        absl::StrCat(kMaxOptionBytes, " bytes"));
  }
  if (!absl::ConsumePrefix(&text, kPrefix)) {
    return InvalidField("load-format", "is not of the form twin:SHAPE[,key=value...]");
  }
  const std::vector<absl::string_view> items = absl::StrSplit(text, ',');
  Values values;
  for (size_t i = 1; i < items.size(); ++i) {
    if (absl::Status taken = values.Take(items[i]); !taken.ok()) return taken;
  }
  absl::StatusOr<std::optional<TwinWish>> wish = values.Wish();
  if (!wish.ok()) return wish.status();
  absl::StatusOr<TwinSpec> spec = TwinOfShape(items[0]);
  if (!spec.ok()) return spec.status();
  TwinRequest request{*std::move(spec), *std::move(wish)};
  values.Apply(&request.spec);
  if (absl::Status checked = CheckTwin(request.spec); !checked.ok()) return checked;
  if (request.wish.has_value()) {
    if (absl::Status checked = CheckWish(request.spec, *request.wish); !checked.ok()) return checked;
  }
  return request;
}

std::string TwinOptionText(const TwinSpec& spec, absl::string_view shape) {
  return absl::StrFormat(
      "twin:%s,draft-layers=%d,exit-layer=%d,draft-damping=%.17g,exit-damping=%.17g,logit-scale=%.17g,"
      "seed=%u,dtype=%s",
      shape, spec.draft_layers, spec.exit_layer, spec.draft_damping, spec.exit_damping,
      spec.logit_scale, spec.seed, spec.type == StoredType::kF32 ? "f32" : "bf16");
}

absl::Status CheckWish(const TwinSpec& spec, const TwinWish& wish) {
  if (spec.draft_layers == 0) {
    return InvalidField("agreement", "is asked for without a draft", "draft-layers of at least 1");
  }
  const absl::StatusOr<ModelConfig> config = ReadTwinConfig(spec);
  if (!config.ok()) return config.status();
  if (spec.draft_layers == config->num_layers && wish.agreement < 1.0) {
    return InvalidField("agreement", "is below 1 of a draft that has all layers of the target", "1");
  }
  if (!wish.exit_recall.has_value()) return absl::OkStatus();
  if (spec.draft_layers == spec.exit_layer && wish.recall_top_k == 1 &&
      *wish.exit_recall != wish.agreement) {
    return InvalidField("exit-recall",
                        "differs from agreement though draft and exit are the same layers",
                        "another draft-layers or exit-layer");
  }
  if (spec.draft_layers <= spec.exit_layer && wish.recall_top_k == 1 &&
      wish.agreement > *wish.exit_recall) {
    return InvalidField(
        "agreement",
        absl::StrCat("is ", wish.agreement, ", above exit-recall=", *wish.exit_recall,
                     ": a draft of ", spec.draft_layers, " layers lies below the exit after ",
                     spec.exit_layer,
                     ", which starts from all that the draft knows, so that it cannot agree more often "
                     "than the exit does. Such points need a scripted draft, whose tokens follow the "
                     "target's recorded stream"),
        absl::StrCat("at most ", *wish.exit_recall));
  }
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
