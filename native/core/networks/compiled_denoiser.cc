#include "networks/compiled_denoiser.h"

#include <c10/core/DeviceGuard.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string_view>

#include "process/error.h"
#include "process/faults.h"

namespace torchreel {
namespace {

namespace fs = std::filesystem;

// A folder of our own, removed with its files. Loaded code stays in memory without its file.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "torchreel-XXXXXX").string();
    if (!mkdtemp(name.data())) throw fs::filesystem_error("mkdtemp", name, {errno, std::generic_category()});
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  std::string write(const char* name, std::string_view content) const {
    fs::path file = path_ / name;
    std::ofstream out(file, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) throw fs::filesystem_error("write", file, {errno, std::generic_category()});
    return file;
  }

 private:
  fs::path path_;
};

auto make_runner(at::Device device) {
  auto& makers = torch::inductor::getAOTIModelRunnerRegistry();
  auto maker = makers.find(c10::DeviceTypeName(device.type(), /*lower_case=*/true));
  if (maker != makers.end()) return maker->second;
  throw Error("ERR_DEVICE_UNAVAILABLE", "this libtorch cannot run compiled networks on " + device.str());
}

}  // namespace

CompiledDenoiser::CompiledDenoiser(const torchreel_compiled_denoiser& compiled,
                                   std::unique_ptr<Denoiser> eager, const Network& network)
    : eager_(std::move(eager)),
      network_(network),
      shape_(compiled.shape, compiled.shape + 5),
      texts_(compiled.texts),
      tokens_(compiled.tokens) {
  at::Device device = network.device();
  auto make = make_runner(device);
  try {
    faults::point();
    TemporaryFolder folder;
    std::string library =
        folder.write("denoiser.so", {reinterpret_cast<const char*>(compiled.library), compiled.library_size});
    if (compiled.operators) folder.write("denoiser.json", compiled.operators);  // where libtorch looks for it
    // Only one thread calls it, and a graph of the device may record it.
    runner_ = make(library, /*num_models=*/1, device.str(), /*bin_dir=*/"", /*run_single_threaded=*/true);
  } catch (const fs::filesystem_error& error) {
    throw Error("ERR_OUTPUT_WRITE",
                std::string("cannot write to the temporary folder (TMPDIR) to load the compiled denoiser: ") +
                    error.what());
  } catch (const std::exception& error) {
    throw Error(code_of(error, "ERR_MODEL_CORRUPT"),
                "the compiled denoiser cannot be loaded: " + std::string(short_message(error)));
  }
}

// The step is bound to weights for as long as they are held.
class CompiledDenoiser::Binding {
 public:
  explicit Binding(CompiledDenoiser& denoiser)
      : denoiser_(denoiser), placed_(denoiser.eager_->hold_weights()) {
    denoiser_.bind_weights();
  }
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;
  ~Binding() { denoiser_.weights_.clear(); }

 private:
  CompiledDenoiser& denoiser_;
  WeightHold placed_;
};

WeightHold CompiledDenoiser::hold_weights() { return std::make_shared<Binding>(*this); }

void CompiledDenoiser::bind_weights() {
  auto placed = network_.placed();
  std::unordered_map<std::string, at::Tensor> weights;
  for (const auto& [name, path] : runner_->getConstantNamesToOriginalFQNs()) {
    auto weight = placed.find(path);
    if (weight == placed.end()) {
      throw Error("ERR_MODEL_INCOMPATIBLE",
                  "the compiled denoiser expects a weight " + path + " that the model does not have");
    }
    // In the layout that it was compiled for. Weights that were converted on a CPU or adapted on a GPU have
    // another one: their kernels are copied once more, which the network does not count.
    auto layout = network_.device().is_cpu() ? at::MemoryFormat::Contiguous : kernel_layout(weight->second);
    weights.emplace(name, weight->second.contiguous(layout));
  }
  runner_->update_constant_buffer(weights, /*use_inactive=*/false, /*validate_full_updates=*/true,
                                  /*user_managed=*/true);
  weights_ = std::move(weights);  // each stays at the address that the library has
}

at::Tensor CompiledDenoiser::forward(const at::Tensor& x, const at::Tensor& time, const c10::IValue& context,
                                     const StepOptions& options) {
  if (options.freeu || options.cache)
    throw invalid_argument("a compiled denoiser has neither freeU nor featureCache");
  std::vector<at::Tensor> inputs{x.contiguous(), time};
  c10::List<at::Tensor> texts = context.toTensorList();
  for (const at::Tensor& text : texts) {
    if (text.size(0) != texts_ || text.size(2) != tokens_)
      throw invalid_argument("the denoiser was compiled for other texts");
    inputs.push_back(text);
  }
  if (x.sizes() != shape_) throw invalid_argument("the denoiser was compiled for another size");
  if (weights_.empty()) throw Error("ERR_INTERNAL", "the compiled denoiser has no weights", "denoise");
  faults::point();
  c10::DeviceGuard guard(network_.device());  // the library uses its current stream
  at::Tensor output;
  try {
    output = runner_->boxed_run(std::move(inputs)).at(0);
  } catch (const std::exception& error) {  // without the reason, which the library only prints
    throw Error(
        code_of(error, "ERR_INTERNAL"),
        "the compiled denoiser failed, see stderr for the reason: " + std::string(short_message(error)),
        "denoise");
  }
  network_.check_files();
  return output;
}

}  // namespace torchreel
