// One network: a TorchScript graph without weights, and the weights of a checkpoint, which are bound to it by
// name.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "files/safetensors.h"
#include "networks/adaptation.h"
#include "networks/weight_binding.h"
#include "networks/weight_hold.h"
#include "torchreel_core.h"

namespace torchreel {

struct NetworkOptions {
  uint64_t max_header = SafetensorsFile::default_max_header;  // bytes of a weight file's header
  // Whether weights that are copied to a device also stay in page-locked memory of the host, in the form in
  // which the device computes with them. For weights that are copied again and again.
  bool pinned = false;
  // The type that weights are rounded to before they are converted to the network's.
  at::ScalarType rounded = at::kFloat;
  // Whether weights in bfloat16 on a CPU are packed where the graph allows it and the processor gains by it.
  bool packed = false;
  WeightNames names;
  // Gets what the files have that was not expected, and that is no reason to refuse them.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

// The layout of a weight in memory that is fastest to compute with: kernels have their channels last, as
// activations have.
at::MemoryFormat kernel_layout(const at::Tensor& weight);

class Network {
 public:
  // Loads the graph, maps the weights and checks that they fit each other. Copies no weight.
  // Throws ERR_MODEL_CORRUPT for a broken file or one with a larger header than is allowed,
  // ERR_MODEL_INCOMPATIBLE naming up to ten tensors that are missing or do not fit. Warns of tensors that the
  // network does not need, and of files that cannot be mapped.
  Network(const torchreel_network_files& files, at::Device device, at::ScalarType dtype,
          const NetworkOptions& options = {});
  ~Network();

  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }

  // The stages that the graph lists; 1 for a graph that computes in one piece.
  size_t stages() const { return stages_.size(); }
  // Places the weights of a stage, or of all stages, on the device and in the dtype that the network computes
  // in. Copies are freed with the last hold; on the CPU in the file's own dtype there are none, unless
  // weights are packed. The host's weights stay mapped, so nothing is copied back. A hold must not outlive
  // the network.
  WeightHold place(size_t stage);
  WeightHold place();
  // All stages in another dtype, in place of those that are placed, until the hold ends.
  WeightHold place_as(at::ScalarType dtype);

  // Throws ERR_MODEL_INCOMPATIBLE for a weight that the network lacks or that has another shape.
  void check(const Adaptation& adaptation) const;
  // Sets a checked adaptation and gives the one before; while no weight is held. A weight that it changes is
  // made from the file's pages in float32, and then converted to the network's dtype, whenever it is placed.
  void swap_adaptation(Adaptation& adaptation);

  // Runs a method of the graph. Throws ERR_MODEL_CORRUPT if a file of the weights was rewritten meanwhile.
  c10::IValue call(const std::string& method, std::vector<c10::IValue> arguments);
  void check_files() const;

  // The weights by their names, as they are placed now.
  std::unordered_map<std::string, at::Tensor> placed() const;

  // Rows of a table (N, D) by their numbers (T), from the file's pages: (T, D) on the device and in the dtype
  // that the network computes in. The rest of the table is not read. Throws ERR_MODEL_CORRUPT if a file was
  // rewritten meanwhile.
  at::Tensor gather_rows(const std::string& table, const at::Tensor& rows) const;

  // Takes the pages of the mapped weights out of memory. The next call reads them again.
  void drop_pages() const;
  void drop_pages(const at::Tensor& weight) const;

  // May be called on any thread.
  torchreel_network_memory memory() const;

 private:
  class Placement;  // of one stage
  struct Weight : BoundWeight {
    at::Tensor pinned;  // `host` in page-locked memory, or undefined
    bool float32;       // whether it stays so in every dtype
    bool packed;        // whether it is packed in bfloat16
  };
  struct Stage {
    std::vector<Weight> weights;
    std::weak_ptr<const Placement> placement;
  };

  void bind(const torchreel_network_files& files, const NetworkOptions& options);
  void pin(Stage& stage);

  torch::jit::Module graph_;
  std::vector<Stage> stages_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  Adaptation adaptation_;
  at::Device device_;
  at::ScalarType dtype_;
  at::ScalarType rounded_;
  bool pins_;
  bool packs_;
  int64_t mapped_ = 0;                                    // bytes
  std::atomic<int64_t> copied_{0}, peak_{0}, pinned_{0};  // bytes
  std::atomic<size_t> placed_{0};                         // stages
};

}  // namespace torchreel
