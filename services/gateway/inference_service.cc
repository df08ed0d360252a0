#include "services/gateway/inference_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/speculation_policy.h"
#include "mirrorsd/v1/inference.grpc.pb.h"
#include "services/gateway/byte_buffers.h"
#include "services/gateway/generate_stream.h"
#include "services/gateway/request_plan.h"
#include "services/wire/inference_wire.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::gateway {
namespace {

using Base = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Tokenize<v1::Inference::WithRawCallbackMethod_Detokenize<
        v1::Inference::WithCallbackMethod_ListModels<
            v1::Inference::WithCallbackMethod_GetServerInfo<v1::Inference::Service>>>>>;

class InferenceService final : public Base {
 public:
  InferenceService(std::shared_ptr<GatewayState> state, std::string version)
      : state_(std::move(state)), version_(std::move(version)) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override {
    return StartGenerate(state_, context, *request);
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override {
    return Answer<v1::TokenizeRequest, v1::TokenizeResponse>(
        context, *request, response,
        [this](const auto& message, auto* answer) { return DoTokenize(message, answer); });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override {
    return Answer<v1::DetokenizeRequest, v1::DetokenizeResponse>(
        context, *request, response,
        [this](const auto& message, auto* answer) { return DoDetokenize(message, answer); });
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse* response) override {
    const std::shared_ptr<const CellView> view = state_->watch->view();
    v1::ModelInfo* model = response->add_models();
    model->set_name(state_->model.name);
    model->set_context_length(view->cell.context_length);
    model->set_vocabulary_size(view->cell.vocabulary_size);
    model->set_vocabulary_fingerprint(state_->model.tokenizer->VocabularyFingerprint());
    return Finish(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest*,
                                          v1::GetServerInfoResponse* response) override {
    FillServerInfo(*state_->watch->view(), response);
    return Finish(context, absl::OkStatus());
  }

 private:
  static grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context,
                                          const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(wire::ToGrpcStatus(status));
    return reactor;
  }

  template <typename Request, typename Response, typename Do>
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer& request,
                                          grpc::ByteBuffer* response, const Do& work) {
    Request message;
    Response answer;
    absl::Status status = wire::ParseMessage(ToBytes(request), &message);
    if (status.ok()) status = work(message, &answer);
    if (status.ok()) *response = ToByteBuffer(answer);
    return Finish(context, status);
  }

  absl::Status DoTokenize(const v1::TokenizeRequest& message, v1::TokenizeResponse* answer) {
    auto command = wire::Parse(message);
    if (!command.ok()) return command.status();
    absl::Status status = CheckModelName(command->model, state_->model);
    if (!status.ok()) return status;
    absl::StatusOr<std::vector<TokenId>> ids;
    if (const auto* text = std::get_if<std::string>(&command->input)) {
      ids = state_->model.tokenizer->Encode(*text, command->add_special_tokens, "text");
    } else {
      const auto& chat = std::get<wire::ChatRequest>(command->input);
      std::vector<text::ChatMessage> messages;
      for (const auto& [role, content] : chat.messages) messages.push_back({role, content});
      ids = EncodeChat(state_->model, messages, chat.tools_json, chat.add_generation_prompt);
    }
    if (!ids.ok()) return ids.status();
    answer->mutable_token_ids()->Assign(ids->begin(), ids->end());
    answer->set_context_length(state_->watch->view()->cell.context_length);
    return absl::OkStatus();
  }

  absl::Status DoDetokenize(const v1::DetokenizeRequest& message,
                            v1::DetokenizeResponse* answer) {
    auto command = wire::Parse(message);
    if (!command.ok()) return command.status();
    absl::Status status = CheckModelName(command->model, state_->model);
    if (!status.ok()) return status;
    auto text =
        state_->model.tokenizer->Decode(command->token_ids, command->skip_special_tokens);
    if (!text.ok()) return text.status();
    answer->set_text(*std::move(text));
    return absl::OkStatus();
  }

  void FillServerInfo(const CellView& view, v1::GetServerInfoResponse* info) const {
    const CellDescription& cell = view.cell;
    info->set_version(version_);
    info->set_model(state_->model.name);
    info->set_ready(view.reachable && cell.ready && !state_->draining.load());
    info->set_default_speculation(SpeculationModeName(cell.default_speculation));
    info->set_default_num_speculative_tokens(cell.default_num_speculative_tokens);
    for (const std::string& reason : cell.speculation_degraded) {
      info->add_speculation_degraded(reason);
    }
    info->set_num_requests_running(cell.num_requests_running);
    info->set_num_requests_waiting(cell.num_requests_waiting);
    for (const AttachedWorker& worker : cell.workers) {
      v1::WorkerInfo* told = info->add_workers();
      told->set_name(worker.name);
      told->set_role(worker.role == WorkerRole::kVerifier ? "verifier" : "draft");
      told->set_state(worker.state);
      told->set_model(worker.model_name);
      told->set_numerics_id(worker.numerics_id);
      told->set_process_id(worker.process_id);
      told->set_kv_blocks_total(worker.blocks.total);
      told->set_kv_blocks_free(worker.blocks.free);
      told->set_kv_blocks_evictable(worker.blocks.evictable);
      told->set_num_sequences(worker.num_sequences);
    }
  }

  const std::shared_ptr<GatewayState> state_;
  const std::string version_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(std::shared_ptr<GatewayState> state,
                                                    std::string version) {
  return std::make_unique<InferenceService>(std::move(state), std::move(version));
}

}  // namespace mirrorsd::gateway
