#include "services/journal/alive_index.h"

#include <variant>

namespace mirrorsd::journal {

using scheduler::Action;
using scheduler::Event;

void AliveIndex::Watch(const Event& event) {
  if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
    requests_[submitted->stream].request_id = submitted->request.request_id;
  } else if (const auto* attached = std::get_if<scheduler::WorkerAttached>(&event)) {
    workers_[attached->connection] = {attached->hello.name,
                                      attached->hello.role == WorkerRole::kDraft};
  } else if (const auto* detached = std::get_if<scheduler::WorkerDetached>(&event)) {
    workers_.erase(detached->connection);
  }
}

void AliveIndex::Watch(const Action& action) {
  if (const auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
    WatchSend(*send);
  } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    if (commit->committed.finish != FinishReason::kNone) Erase(commit->stream);
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    Erase(fail->stream);
  } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
    workers_.erase(close->connection);
  } else if (const auto* refuse = std::get_if<scheduler::RefuseWorker>(&action)) {
    workers_.erase(refuse->connection);
  }
}

void AliveIndex::WatchSend(const scheduler::SendToWorker& send) {
  if (const auto* start = std::get_if<StartSequence>(&send.command)) {
    const auto request = requests_.find(send.stream);
    if (request == requests_.end()) return;
    request->second.places[start->sequence_id] = send.connection;
    streams_[start->sequence_id] = send.stream;
  } else if (const auto* end = std::get_if<EndSequence>(&send.command)) {
    const auto stream = streams_.find(end->sequence_id);
    if (stream == streams_.end()) return;
    requests_[stream->second].places.erase(end->sequence_id);
    streams_.erase(stream);
  }
}

void AliveIndex::Erase(ConnectionId stream) {
  const auto request = requests_.find(stream);
  if (request == requests_.end()) return;
  for (const auto& [sequence, connection] : request->second.places) streams_.erase(sequence);
  requests_.erase(request);
}

void AliveIndex::Write(internal::v1::JournalRing* ring) const {
  for (const auto& [stream, request] : requests_) {
    internal::v1::JournalAlive* alive = ring->add_alive();
    alive->set_stream(stream);
    alive->set_request_id(request.request_id);
    for (const auto& [sequence, connection] : request.places) {
      internal::v1::JournalPlace* place = alive->add_places();
      place->set_sequence_id(sequence);
      place->set_connection(connection);
    }
  }
  for (const auto& [connection, worker] : workers_) {
    internal::v1::JournalWorker* out = ring->add_workers();
    out->set_connection(connection);
    out->set_name(worker.name);
    out->set_is_draft(worker.is_draft);
  }
}

}  // namespace mirrorsd::journal
