#include "workers/scripts/scripted_draft.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/error.h"
#include "common/noise.h"
#include "workers/scripts/script_line.h"

namespace mirrorsd::scripts {
namespace {

constexpr size_t kMaxAgreementBytes = 4096;
constexpr char kOption[] = "draft-script-agreement";

}  // namespace

absl::StatusOr<Agreement> Agreement::Parse(absl::string_view field, absl::string_view text) {
  if (text.empty() || text.size() > kMaxAgreementBytes) {
    return InvalidField(field, absl::StrCat("has ", text.size(), " bytes"),
                        absl::StrCat("1 to ", kMaxAgreementBytes));
  }
  Agreement agreement;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string shown(part.substr(0, 80));
    double share = 0;
    if (!absl::SimpleAtod(sides.back(), &share) || !(share >= 0 && share <= 1)) {
      return InvalidField(field, absl::StrCat("'", shown, "' has no share"), "0 to 1");
    }
    if (sides.size() == 1) {
      if (agreement.others_.has_value()) {
        return InvalidField(field, absl::StrCat("'", shown, "' is a second number without a kind"));
      }
      agreement.others_ = share;
      continue;
    }
    if (!IsKind(sides[0])) {
      return InvalidField(field, absl::StrCat("'", shown, "' names no kind"),
                          "1 to 64 of a-z, 0-9, _ and -");
    }
    if (!agreement.by_kind_.emplace(std::string(sides[0]), share).second) {
      return InvalidField(field, absl::StrCat("'", shown, "' names a kind again"));
    }
  }
  return agreement;
}

std::optional<double> Agreement::For(const std::string& kind) const {
  const auto it = by_kind_.find(kind);
  return it == by_kind_.end() ? others_ : it->second;
}

absl::StatusOr<std::unique_ptr<ScriptedDraft>> ScriptedDraft::Create(DraftScript script,
                                                                     Agreement agreement,
                                                                     uint64_t seed) {
  const std::vector<std::string> kinds = script.Kinds();
  for (const auto& [kind, ignored] : agreement.by_kind()) {
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
      return InvalidField(kOption, absl::StrCat("the script has no kind '", kind, "'"),
                          absl::StrJoin(kinds, ", ").substr(0, 512));
    }
  }
  std::map<std::string, double> shares;
  for (const std::string& kind : kinds) {
    const std::optional<double> share = agreement.For(kind);
    if (!share.has_value()) {
      return InvalidField(kOption, absl::StrCat("says nothing of the script's kind '", kind, "'"));
    }
    shares[kind] = *share;
  }
  return std::unique_ptr<ScriptedDraft>(
      new ScriptedDraft(std::move(script), std::move(shares), seed));
}

absl::StatusOr<std::unique_ptr<ScriptedDraft>> ScriptedDraft::Load(
    const ScriptedDraftOptions& options, int32_t vocabulary_size) {
  absl::StatusOr<Agreement> agreement = Agreement::Parse(kOption, options.agreement);
  if (!agreement.ok()) return agreement.status();
  absl::StatusOr<DraftScript> script = DraftScript::Load(options.path);
  if (!script.ok()) return script.status();
  if (script->vocabulary_size() > vocabulary_size) {
    return InvalidField("draft-script",
                        absl::StrCat("is of a vocabulary of ", script->vocabulary_size()),
                        absl::StrCat("the draft's ", vocabulary_size));
  }
  return Create(*std::move(script), *std::move(agreement), options.seed);
}

std::optional<TokenId> ScriptedDraft::Count(int64_t ScriptCounts::*count,
                                            std::optional<TokenId> token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++(counts_.*count);
  return token;
}

ScriptCounts ScriptedDraft::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

std::optional<TokenId> ScriptedDraft::Propose(const DraftScript::Stream* stream,
                                              absl::Span<const TokenId> output, int32_t num_ids) {
  if (stream == nullptr || num_ids < 2) return Count(&ScriptCounts::num_unscripted, std::nullopt);
  const std::vector<TokenId>& recorded = stream->token_ids;
  if (output.size() >= recorded.size()) return Count(&ScriptCounts::num_past_end, std::nullopt);
  if (!std::equal(output.begin(), output.end(), recorded.begin())) {
    return Count(&ScriptCounts::num_left, std::nullopt);
  }
  const TokenId truth = recorded[output.size()];
  const PhiloxBlock words = Philox4x32(
      {{static_cast<uint32_t>(output.size()), static_cast<uint32_t>(stream->key.high),
        static_cast<uint32_t>(stream->key.high >> 32), kScriptNoiseStream}},
      static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32));
  const bool agrees = static_cast<double>(words.word[0]) < shares_.at(stream->kind) * 0x1p32;
  if (agrees && truth < num_ids) return Count(&ScriptCounts::num_agreed, truth);
  // Evenly from all ids but the recorded one.
  const uint32_t choices = static_cast<uint32_t>(truth < num_ids ? num_ids - 1 : num_ids);
  TokenId other = static_cast<TokenId>(uint64_t{words.word[1]} * choices >> 32);
  if (truth < num_ids && other >= truth) ++other;
  return Count(&ScriptCounts::num_disagreed, other);
}

}  // namespace mirrorsd::scripts
