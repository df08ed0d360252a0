#pragma once
// The text files of a twin, the same for target and draft, for a folder and for a gateway that has no folder: a
// byte-level tokenizer.json filled up to the shape's vocabulary, tokenizer_config.json with a plain chat template,
// generation_config.json without end tokens (a twin never ends by itself). Token b < 256 is the byte b; token t
// from 256 on is " wN" in base 26 letters: text never encodes to it, but a random model writes it. Pure function.

#include <map>
#include <string>

#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

// By file name, config.json of the target among them. `spec` was looked at by CheckTwin.
std::map<std::string, std::string> TwinTextFiles(const TwinSpec& spec);

// "a", "b", ..., "z", "aa", ...: the letters of the n-th filler.
std::string FillerLetters(int32_t n);

}  // namespace mirrorsd::engine
