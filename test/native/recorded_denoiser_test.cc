// Steps that a device records and repeats. The device here is the CPU, with graphs that note each operation
// and do it again on the same tensors. As on a GPU, a recorded step has no result until it is repeated,
// nothing may be read from the device meanwhile, and later tensors at other addresses are not seen.
#include "networks/recorded_denoiser.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "check.h"
#include "networks/device_graph.h"
#include "torchreel_core.h"

namespace {

constexpr auto noting = c10::DispatchKey::TESTING_ONLY_GenericMode;

struct Operation {
  c10::OperatorHandle what;
  std::vector<c10::IValue> inputs;
  std::vector<at::Tensor> outputs;  // those with memory of their own
};

std::vector<Operation>* notes = nullptr;
int begun = 0, replayed = 0, alive = 0;
bool fails = false;  // at the end of a recording

void note(const c10::OperatorHandle& what, c10::Stack* stack) {
  check(what.schema().name() != "aten::_local_scalar_dense", "nothing is read from a device that records");
  size_t count = what.schema().arguments().size();
  Operation operation{what, {stack->end() - static_cast<std::ptrdiff_t>(count), stack->end()}, {}};
  c10::impl::ExcludeDispatchKeyGuard done(noting);
  what.callBoxed(stack);
  auto own = [&](const at::Tensor& output) {
    return std::ranges::none_of(operation.inputs, [&](const c10::IValue& input) {
      return input.isTensor() && input.toTensor().defined() && input.toTensor().is_alias_of(output);
    });
  };
  for (size_t i = stack->size() - what.schema().returns().size(); i < stack->size(); ++i) {
    if ((*stack)[i].isTensor() && own((*stack)[i].toTensor()))
      operation.outputs.push_back((*stack)[i].toTensor());
  }
  notes->push_back(std::move(operation));
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&note>());
}

class NotedGraph : public torchreel::DeviceGraph {
 public:
  NotedGraph() { ++alive; }
  ~NotedGraph() override { --alive; }
  void begin() override {
    ++begun;
    notes = &operations_;
    guard_.emplace(noting);
  }
  void end() override {
    guard_.reset();
    TORCH_CHECK(!fails, "CUDA error: operation not permitted when stream is capturing");
    for (Operation& operation : operations_) {
      for (at::Tensor& output : operation.outputs) output.fill_(std::nan(""));
    }
  }
  void replay() override {
    ++replayed;
    for (Operation& operation : operations_) {
      c10::Stack stack = operation.inputs;
      operation.what.callBoxed(&stack);
      size_t at = 0;
      if (operation.outputs.empty()) continue;
      for (const c10::IValue& result : stack) operation.outputs.at(at++).copy_(result.toTensor());
    }
  }

 private:
  std::vector<Operation> operations_;
  std::optional<c10::impl::IncludeDispatchKeyGuard> guard_;
};

struct Checkpoint {
  explicit Checkpoint(const std::string& fixtures) {
    const std::pair<const char*, const char*> networks[] = {
        {"text_encoder", "model"}, {"unet", "diffusion_pytorch_model"}, {"vae", "diffusion_pytorch_model"}};
    for (const auto& [name, weights] : networks) {
      graphs.push_back(fixtures + "/../../models/graphs/tiny/" + name + ".pt");
      files.push_back(fixtures + "/tiny/checkpoint/" + name + "/" + weights + ".safetensors");
    }
    for (const std::string& file : files) pointers.push_back(file.c_str());
  }
  std::vector<std::string> graphs, files;
  std::vector<const char*> pointers;
};

// A pipeline on the CPU, and videos of two frames that are denoised from the same noise.
class Studio {
 public:
  Studio(const Checkpoint& checkpoint, bool captures, const char* offload = "none",
         const char* dtype = "float32") {
    torchreel_pipeline_options options{};
    const char* roles[] = {"text_encoder", "denoiser", "vae"};
    torchreel_network_files networks[3];
    for (size_t i = 0; i < 3; ++i)
      networks[i] = {roles[i], checkpoint.graphs[i].c_str(), &checkpoint.pointers[i], 1, nullptr, 0};
    const double scale[] = {0.18215, 0.18215, 0.18215, 0.18215}, mean[] = {0, 0, 0, 0};
    options.family = "modelscope";
    options.networks = networks;
    options.network_count = 3;
    options.device = "cpu";
    options.dtype = dtype;
    options.offload = offload;
    options.latent_channels = 4;
    options.latent_scale = scale;
    options.latent_mean = mean;
    options.capture_graph = captures;
    options.max_header = 1 << 20;
    options.cancelled = [](void*) { return 0; };
    torchreel_error error{};
    check_ok(core_.pipeline_open(&options, &pipeline_, &error), error);
  }
  ~Studio() { core_.pipeline_close(pipeline_); }

  struct Call {
    int32_t word = 1;                          // the prompt
    std::vector<double> guidance{3, 3, 3, 3};  // one for each step
    int64_t frames = 2;
    std::vector<double> freeu{};
    int64_t cancelled_after = -1;  // steps
  };
  // The latents; empty when the job was cancelled or failed.
  std::vector<float> latents(const Call& call) {
    const std::vector<int32_t> negative(77, 0);
    std::vector<int32_t> prompt(77, call.word);
    std::vector<double> program;
    for (size_t step = 0; step < call.guidance.size(); ++step) {
      double timestep = 900.0 - 200.0 * static_cast<double>(step);
      for (double number : {0.0, timestep, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 1.0, -0.1})
        program.push_back(number);
    }
    const uint64_t seed = 1;
    torchreel_request request{};
    request.videos = 1;
    request.prompts = {prompt.data(), 77, nullptr, 0, nullptr, 0};
    request.negative_prompts = {negative.data(), 77, nullptr, 0, nullptr, 0};
    request.frames = request.latent_frames = call.frames;
    request.latent_height = request.latent_width = 8;
    request.program = program.data();
    request.program_length = program.size();
    request.guidance = call.guidance.data();
    request.guidance_length = call.guidance.size();
    request.seeds = &seed;
    request.seed_count = 1;
    request.freeu = call.freeu.empty() ? nullptr : call.freeu.data();
    Job job{{}, call.cancelled_after, 0};
    torchreel_listener listener{
        .context = &job,
        .cancelled = [](void* context) -> int {
          auto& job = *static_cast<Job*>(context);
          return job.cancelled_after >= 0 && job.steps >= job.cancelled_after;
        },
        .progress =
            [](void* context, int stage, int64_t step, int64_t) {
              if (stage == TORCHREEL_DENOISE) static_cast<Job*>(context)->steps = step;
            },
        .latents =
            [](void* context, int64_t, int64_t, const float* data, const int64_t* shape) {
              int64_t count = 1;
              for (int i = 0; i < 5; ++i) count *= shape[i];
              static_cast<Job*>(context)->latents.assign(data, data + count);
            },
        .frames = [](void*, int64_t, int64_t, int64_t, int64_t, const uint8_t*) {},
        .warning = [](void*, const char*) {},
        .threads = nullptr};
    error = {};
    core_.pipeline_generate(pipeline_, &request, &listener, &error);
    return job.latents;
  }
  void adapt() {
    const torchreel_adaptation none{};
    check_ok(core_.pipeline_adapt(pipeline_, &none, &none, &error), error);
  }

  torchreel_error error{};  // of the last call

 private:
  struct Job {
    std::vector<float> latents;
    int64_t cancelled_after, steps;
  };
  static void check_ok(int failed, const torchreel_error& error) {
    if (failed) throw torchreel::Error(error.code, error.message);
  }

  const torchreel_core& core_ = *torchreel_core_table();
  torchreel_pipeline* pipeline_ = nullptr;
};

// Recordings and repetitions since the last question.
std::string counted() {
  std::string text = std::to_string(begun) + " " + std::to_string(replayed);
  begun = replayed = 0;
  return text;
}

void test_repeats(const Checkpoint& checkpoint) {
  Studio plain(checkpoint, false), recorded(checkpoint, true);
  auto same = [&](const Studio::Call& call, const std::string& wanted, const std::string& what) {
    std::vector<float> expected = plain.latents(call), given = recorded.latents(call);
    check(!given.empty() && given == expected, what + ": the same numbers. " + recorded.error.message);
    std::string count = counted();
    check(count == wanted, what + ": recorded and repeated " + wanted + ", not " + count);
  };
  same({}, "1 3", "the first step is done, the second recorded");
  same({}, "0 4", "another job repeats them all");
  same({.word = 7}, "0 4", "another prompt, too");
  same({.guidance = {3, 1, 1, 1}}, "1 3", "the prompt alone is another recording");
  same({.guidance = {3, 1, 3, 1}}, "0 4", "both are kept");
  same({.frames = 3}, "1 3", "so is another size");
  same({.freeu = {0.9, 0.2, 1.2, 1.4}}, "1 3", "and FreeU");
  same({}, "1 3", "the first is not kept any more");
  check(alive <= 2, "two are kept at most");
  recorded.adapt();
  check(alive == 0, "none holds weights that move");
  same({}, "1 3", "what has new weights is recorded anew");
  recorded.latents({.cancelled_after = 2});
  check(std::string(recorded.error.code) == "ABORTED", "a job is cancelled between repetitions");
  check(counted() == "0 2", "within a step");
  same({}, "0 4", "and what it repeated is still good");
}

void test_offload(const Checkpoint& checkpoint) {
  Studio plain(checkpoint, false, "model", "bfloat16"), recorded(checkpoint, true, "model", "bfloat16");
  std::vector<float> expected = plain.latents({});
  for (int job = 0; job < 2; ++job) {
    check(recorded.latents({}) == expected, "the same numbers with weights that go and come");
    check(counted() == "1 3", "each job records for itself");
    check(alive == 0, "and keeps nothing");
  }
  recorded.latents({.cancelled_after = 3});
  check(alive == 0, "nor does one that is cancelled");
  counted();
  check_throws("ERR_INVALID_ARGUMENT", "captureGraph", [&] { Studio(checkpoint, true, "sequential"); });
}

void test_failure(const Checkpoint& checkpoint) {
  Studio recorded(checkpoint, true);
  fails = true;
  check(recorded.latents({}).empty(), "a recording that fails ends the job");
  check(std::string(recorded.error.code) == "ERR_INTERNAL", recorded.error.code);
  std::string message = recorded.error.message;
  check(message.find("captureGraph") != std::string::npos && message.find("capturing") != std::string::npos,
        message);
  check(alive == 0, "and leaves nothing");
  fails = false;
  check(!recorded.latents({}).empty(), "the next job works: the device is not lost");
  counted();
}

}  // namespace

int main(int, char** arguments) {
  Checkpoint checkpoint(arguments[1]);
  check_throws("ERR_DEVICE_UNAVAILABLE", "captureGraph", [&] { Studio(checkpoint, true); });
  check_throws("ERR_DEVICE_UNAVAILABLE", "torchreel_cuda", [] { torchreel::device_graphs(at::kCUDA); });
  torchreel::set_device_graphs(at::kCPU, []() -> torchreel::DeviceGraph* { return new NotedGraph; });
  test_repeats(checkpoint);
  test_offload(checkpoint);
  test_failure(checkpoint);
  return 0;
}
