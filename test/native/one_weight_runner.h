// A runner in the place of libtorch's, for a library of a compiled step that has one weight. A test says what
// the library computes.
#pragma once

#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>
#include <torch/csrc/inductor/aoti_torch/tensor_converter.h>

#include <vector>

namespace one_weight {

inline const char* weight = "conv_in.bias";  // its name in the network
inline bool fails = false;                   // when the library is given the weight
inline const at::Tensor* bound = nullptr;    // the weight as the library got it, while it has it

class Runner : public torch::inductor::AOTIModelContainerRunner {
 protected:
  Runner() {  // as the functions of a library: 0 is success
    get_num_constants_func_ = [](AOTInductorModelContainerHandle, size_t* constants) {
      *constants = 1;
      return 0;
    };
    get_constant_name_func_ = [](AOTInductorModelContainerHandle, size_t, const char** name) {
      *name = "constant";
      return 0;
    };
    get_constant_original_fqn_func_ = [](AOTInductorModelContainerHandle, size_t, const char** path) {
      *path = weight;
      return 0;
    };
    update_user_managed_constant_buffer_func_ = [](AOTInductorModelContainerHandle,
                                                   AOTInductorConstantMapHandle constants, bool, bool) {
      bound = reinterpret_cast<torch::inductor::TensorConstantMap*>(constants)->at("constant");
      return fails ? 1 : 0;
    };
    delete_func_ = [](AOTInductorModelContainerHandle) {
      bound = nullptr;
      return 0;
    };
  }

  virtual std::vector<at::Tensor> compute(const std::vector<at::Tensor>& inputs) = 0;

 private:
  std::vector<at::Tensor> run_impl(std::vector<AtenTensorHandle>& handles, void*) final {
    return compute(
        torch::aot_inductor::alloc_tensors_by_stealing_from_handles(handles.data(), handles.size()));
  }
};

}  // namespace one_weight
