#pragma once
// The shapes that a twin can have by name: the config.json of real models, dimension by dimension, and a few
// small ones. Data only. A shape whose architecture the engine cannot run is listed and refused where it is to be
// run (families.h says which it can). No weights, no trained model of anybody.

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace mirrorsd::engine {

struct NamedShape {
  const char* name;    // "0.5b"
  const char* like;    // for people: whose dimensions they are, and what differs
  const char* config;  // a config.json
};

absl::Span<const NamedShape> NamedShapes();
// Null where there is none.
const NamedShape* FindShape(absl::string_view name);
// "micro, small, 0.5b, ..."
std::string ShapeNames();

}  // namespace mirrorsd::engine
