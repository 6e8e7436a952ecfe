// A compiled step on the device. Inductor compiles nothing for the device for tests, so a runner stands in
// the place of libtorch's: it adds up what the library would get. test/checkpoint/compiled_denoiser.test.ts
// runs compiled code, on the CPU.
#include <ATen/TensorOperators.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "../one_weight_runner.h"
#include "accelerator.h"
#include "checks.h"

namespace checks {
namespace {

using studio::Pipeline;
using studio::Result;

std::vector<std::string> strayed;  // devices that were current in a step, and were not the weight's

class Adding : public one_weight::Runner {
  std::vector<at::Tensor> compute(const std::vector<at::Tensor>& inputs) override {
    const at::Tensor& weight = *one_weight::bound;
    const at::Device device = weight.device();
    // A library launches its kernels on the current stream of the current device.
    if (!device.is_cpu()) {
      at::Device current = c10::impl::VirtualGuardImpl(device.type()).getDevice();
      if (current != device) strayed.push_back(current.str());
    }
    at::Tensor sum = weight.sum().to(at::kFloat) + inputs[1];
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
