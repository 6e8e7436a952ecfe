#include "pipeline_handle.h"

#include <utility>

#include "arguments.h"
#include "core_library.h"
#include "process/fault_order.h"
#include "reports.h"
#include "requests.h"

// Another copy of the addon in the process has another tag, so its handles are refused.
const napi_type_tag PipelineHandle::type_tag{0x1f3bd9e2a7c84d51, reinterpret_cast<uintptr_t>(&type_tag)};

PipelineHandle::PipelineHandle(Napi::Env env)
    : env_(env),
      core_(opened_core()),
      thread_(
          env,
          [this] {
            std::unique_lock lock(mutex_);
            torchreel_pipeline* closing = std::exchange(pipeline_, nullptr);
            lock.unlock();
            if (closing) core_.pipeline_close(closing);
          },
          [this] { report_external_memory(0); }) {}

PipelineHandle::~PipelineHandle() { report_external_memory(0); }

void PipelineHandle::report_external_memory(int64_t bytes) {
  Napi::MemoryManagement::AdjustExternalMemory(env_, bytes - std::exchange(external_memory_, bytes));
}

Napi::Promise PipelineHandle::open(Napi::Env env, uint32_t id, const Napi::Object& options) {
  auto job = std::make_unique<Job>(env);
  job->succeeded = [this](Napi::Env) {
    torchreel_memory memory{};
    torchreel_error ignored{};
    if (core_.pipeline_memory(pipeline_, &memory, &ignored)) return;
    int64_t bytes = 0;
    for (const auto& network : {memory.text_encoder, memory.denoiser, memory.vae})
      bytes += network.mapped + network.copied;
    report_external_memory(bytes);
  };
  job->work = [this, options = std::make_shared<const PipelineOptions>(options)](Job& running,
                                                                                 torchreel_error* error) {
    torchreel_pipeline_options view = options->view();
    view.context = &running;
    view.cancelled = [](void* context) -> int { return static_cast<Job*>(context)->cancelled; };
    torchreel_pipeline* opened = nullptr;
    int failed = core_.pipeline_open(&view, &opened, error);
    std::lock_guard lock(mutex_);
    pipeline_ = opened;
    return failed;
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Promise PipelineHandle::generate(Napi::Env env, uint32_t id, const Napi::Object& request,
                                       const Napi::Function& listener) {
  torchreel::faults::arm();
  auto job = std::make_unique<Job>(env);
  job->listener = Napi::Persistent(listener);
  job->work = [this, request = std::make_shared<const Request>(request)](Job& running,
                                                                         torchreel_error* error) {
    if (!is_open(error)) return 1;
    Reporter reporter{thread_, running};
    torchreel_listener listener = reporter.listener();
    return core_.pipeline_generate(pipeline_, &request->view(), &listener, error);
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Promise PipelineHandle::encode(Napi::Env env, uint32_t id, int64_t prompts, const Napi::Object& text,
                                     const Napi::Function& listener) {
  auto job = std::make_unique<Job>(env);
  job->listener = Napi::Persistent(listener);
  job->work = [this, prompts, text = std::make_shared<const Text>(text, prompts)](Job& running,
                                                                                  torchreel_error* error) {
    if (!is_open(error)) return 1;
    Reporter reporter{thread_, running};
    return core_.pipeline_encode(pipeline_, prompts, &text->view(), &reporter, Reporter::embeddings, error);
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Value PipelineHandle::memory(Napi::Env env) {
  torchreel_memory memory{};
  torchreel_error error{};
  {
    std::lock_guard lock(mutex_);
    if (!is_open(&error) || core_.pipeline_memory(pipeline_, &memory, &error)) throw core_error(env, error);
  }
  auto network = [&](const torchreel_network_memory& bytes) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("mapped", static_cast<double>(bytes.mapped));
    object.Set("copied", static_cast<double>(bytes.copied));
    object.Set("peakCopied", static_cast<double>(bytes.peak_copied));
    object.Set("pinned", static_cast<double>(bytes.pinned));
    object.Set("placed", bytes.placed != 0);
    return object;
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("textEncoder", network(memory.text_encoder));
  object.Set("denoiser", network(memory.denoiser));
  object.Set("vae", network(memory.vae));
  object.Set("allocated", static_cast<double>(memory.allocated));
  object.Set("reserved", static_cast<double>(memory.reserved));
  int64_t external = Napi::MemoryManagement::AdjustExternalMemory(env, 0);
  object.Set("external", static_cast<double>(external));
  return object;
}

Napi::Promise PipelineHandle::adapt(Napi::Env env, uint32_t id, const Napi::Object& text_encoder,
                                    const Napi::Object& denoiser) {
  auto job = std::make_unique<Job>(env);
  job->work = [this, of_text_encoder = std::make_shared<const AdaptationRequest>(text_encoder),
               of_denoiser = std::make_shared<const AdaptationRequest>(denoiser)](Job&,
                                                                                  torchreel_error* error) {
    if (!is_open(error)) return 1;
    return core_.pipeline_adapt(pipeline_, &of_text_encoder->view(), &of_denoiser->view(), error);
  };
  return thread_.post(env, id, std::move(job));
}

bool PipelineHandle::is_open(torchreel_error* error) const {
  if (!pipeline_) *error = {"ERR_INTERNAL", "the pipeline is not open", "", 0};
  return pipeline_ != nullptr;
}
