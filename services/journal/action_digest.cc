#include "services/journal/action_digest.h"

#include "google/protobuf/arena.h"
#include "services/wire/journal/journal_wire.h"

namespace mirrorsd::journal {

void ActionDigest::Add(const scheduler::Action& action) {
  alignas(8) char block[2048];
  google::protobuf::ArenaOptions options;
  options.initial_block = block;
  options.initial_block_size = sizeof(block);
  google::protobuf::Arena arena(options);
  auto* message = google::protobuf::Arena::CreateMessage<internal::v1::JournalAction>(&arena);
  wire::Write(action, message);
  const auto size = static_cast<uint32_t>(message->ByteSizeLong());
  scratch_.resize(4 + size);
  for (int i = 0; i < 4; ++i) scratch_[i] = static_cast<char>(size >> (8 * i));
  message->SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(scratch_.data() + 4));
  sha_.Update(scratch_);
  ++num_actions_;
}

std::string ActionDigest::Bytes() const {
  Sha256 so_far = sha_;
  const auto bytes = so_far.Finish();
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace mirrorsd::journal
