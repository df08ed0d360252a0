// Any bytes as a draft script, and as an agreement: either an error that names the file and the line (the option), or
// streams of known ids that a draft can follow.

#include <cstdint>
#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "workers/scripts/scripted_draft.h"

namespace {

using namespace mirrorsd::scripts;  // NOLINT

void CheckScript(absl::string_view text) {
  absl::StatusOr<DraftScript> script = DraftScript::Parse("fuzz.jsonl", text);
  if (!script.ok()) {
    const auto info = mirrorsd::GetErrorInfo(script.status());
    CHECK(info.has_value() && info->reason == "BAD_FILE");
    CHECK(info->field.rfind("fuzz.jsonl", 0) == 0);
    CHECK_LT(script.status().message().size(), size_t{2048});
    return;
  }
  CHECK(script->num_streams() >= 1 && !script->Kinds().empty());
  const int32_t vocabulary = script->vocabulary_size();
  auto draft = ScriptedDraft::Create(*std::move(script), Agreement::Of(0.5), 3);
  CHECK(draft.ok()) << draft.status();
  // The request of the first record of a small prompt, if it is there: what is proposed is in the vocabulary.
  for (mirrorsd::TokenId id = 0; id < 4; ++id) {
    mirrorsd::SamplingParameters greedy;
    greedy.temperature = 0;
    const auto* stream = (*draft)->Find({id}, greedy);
    const auto token = (*draft)->Propose(stream, {}, vocabulary);
    CHECK(token.has_value() == (stream != nullptr && vocabulary > 1));
    if (token.has_value()) CHECK(*token >= 0 && *token < vocabulary);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  CheckScript(text);
  const auto agreement = Agreement::Parse("option", text);
  if (!agreement.ok()) {
    const auto info = mirrorsd::GetErrorInfo(agreement.status());
    CHECK(info.has_value() && info->field == "option");
  }
  return 0;
}
