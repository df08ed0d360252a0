#pragma once
// Mutations of protobuf messages by their schema, for libFuzzer targets whose input is a message: bytes changed
// at random mostly break the framing, and what lies behind it is never reached. Not used by any program.
// One thread.

#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>

namespace mirrorsd::fuzz {

using Random = std::mt19937_64;

// Changes one field somewhere in `message`: a number to a neighbour or to an edge of its type, an entry added,
// dropped or doubled, another case of a oneof, a text by bytes. The same `random` gives the same change.
void MutateMessage(google::protobuf::Message* message, Random* random);

// Mutates `data` = one tag byte, then a message of the type that `make` gives for the tag (null: only bytes). Now and
// then the bytes are changed as bytes, by libFuzzer. Returns the new size, at most `max_size`.
size_t MutateTagged(uint8_t* data, size_t size, size_t max_size, unsigned seed,
                    const std::function<std::unique_ptr<google::protobuf::Message>(uint8_t)>& make);

// libFuzzer's own mutation of bytes, in place.
size_t MutateBytes(uint8_t* data, size_t size, size_t max_size);

}  // namespace mirrorsd::fuzz
