// A compiled step on the device. Inductor compiles nothing for the device for tests, so a runner stands in
// the place of libtorch's: it adds up what the library would get. test/checkpoint/compiled_denoiser.test.ts
// runs compiled code, on the CPU.
#include <ATen/TensorOperators.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>
#include <torch/csrc/inductor/aoti_torch/tensor_converter.h>

#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Pipeline;
using studio::Result;

const at::Tensor* bound = nullptr;  // the weight that the library has, while it has one
std::vector<std::string> strayed;   // devices that were current in a step, and were not the weight's

// As the functions of a library: 0 is success.
AOTIRuntimeError count(AOTInductorModelContainerHandle, size_t* constants) { return *constants = 1, 0; }
AOTIRuntimeError name(AOTInductorModelContainerHandle, size_t, const char** name) {
  return *name = "constant", 0;
}
AOTIRuntimeError path(AOTInductorModelContainerHandle, size_t, const char** path) {
  return *path = "conv_in.bias", 0;
}
AOTIRuntimeError bind(AOTInductorModelContainerHandle, AOTInductorConstantMapHandle constants, bool, bool) {
  bound = reinterpret_cast<torch::inductor::TensorConstantMap*>(constants)->at("constant");
  return 0;
}
AOTIRuntimeError close(AOTInductorModelContainerHandle) { return bound = nullptr, 0; }

class Adding : public torch::inductor::AOTIModelContainerRunner {
 public:
  Adding() {
    get_num_constants_func_ = count;
    get_constant_name_func_ = name;
    get_constant_original_fqn_func_ = path;
    update_user_managed_constant_buffer_func_ = bind;
    delete_func_ = close;
  }

 private:
  std::vector<at::Tensor> run_impl(std::vector<AtenTensorHandle>& handles, void*) override {
    auto inputs = torch::aot_inductor::alloc_tensors_by_stealing_from_handles(handles.data(), handles.size());
    const at::Device device = bound->device();
    // A library launches its kernels on the current stream of the current device.
    if (!device.is_cpu()) {
      at::Device current = c10::impl::VirtualGuardImpl(device.type()).getDevice();
      if (current != device) strayed.push_back(current.str());
    }
    at::Tensor sum = bound->sum().to(at::kFloat) + inputs[1];
    for (size_t i = 2; i < inputs.size(); ++i) sum = sum + inputs[i].sum();
    return {inputs[0] * 0.5 + sum * 0.01};
  }
};

std::unique_ptr<torch::inductor::AOTIModelContainerRunner> make(const std::string&, size_t,
                                                                const std::string&, const std::string&,
                                                                const bool) {
  return std::make_unique<Adding>();
}

}  // namespace

void compiled_step(Complaints& complaints) {
  for (const char* device : {"cpu", accelerator::device_name})
    torch::inductor::getAOTIModelRunnerRegistry()[device] = make;
  Result wanted = Pipeline({.compiled = true}).run(job("plain"));
  for (const char* offload : {"none", "model"}) {
    for (bool records : {false, true}) {
      Pipeline pipeline({.device = "standin:1", .offload = offload, .records = records, .compiled = true});
      complaints.unless(pipeline.is_open(), pipeline.code() + ": " + pipeline.message());
      if (!pipeline.is_open()) return;
      const std::string what = std::string("offload '") + offload + (records ? "', recorded" : "'");
      strayed.clear();
      for (const char* time : {", a job", ", the next job"})
        expect_same(complaints, pipeline.run(job("plain")), wanted, what + time);
      complaints.unless(strayed.empty(), what + ": the pipeline's device is the current one in a step");
    }
  }
  complaints.unless(accelerator::counters(0).launches == 0, "the other device is left alone");
  complaints.unless(accelerator::memory(1).allocated == 0, "nothing stays");
}

}  // namespace checks
