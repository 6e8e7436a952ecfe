// One network: a TorchScript graph without weights, and the weights of a checkpoint bound to it by name.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "files/safetensors.h"
#include "networks/adaptation.h"
#include "torchreel_core.h"

namespace torchreel {

class Network {
 public:
  // The weights of a stage, where and how the network computes. Copies are given back with the last share; on
  // the CPU in the file's own dtype there are none. The host's weights stay mapped, so nothing is copied from
  // the device. Must not outlive the network.
  class Placement;
  using Share = std::shared_ptr<const Placement>;

  // Loads the graph, maps the weights and checks that they fit each other. Copies no weight.
  // Throws ERR_MODEL_CORRUPT for a broken file or one with a header of more than `max_header` bytes,
  // ERR_MODEL_INCOMPATIBLE naming up to ten tensors that do not fit. `pinned`: whether weights that are
  // copied to a device stay in page-locked memory of the host, as the device computes with them, for a device
  // that they go to again and again.
  Network(const std::string& component, const torchreel_network_files& files, at::Device device,
          at::ScalarType dtype, uint64_t max_header = SafetensorsFile::standard_max_header,
          bool pinned = false);
  ~Network();

  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // What the graph's `stages` tells; 1 for a graph that has none and computes in one piece.
  size_t stages() const { return stages_.size(); }
  Share place(size_t stage);
  std::vector<Share> place();  // all stages
  // All stages in another dtype, over what is placed, until the shares are given back.
  std::vector<Share> place_as(at::ScalarType dtype);

  // Throws ERR_MODEL_INCOMPATIBLE for a weight that the network lacks or that has another shape.
  void check(const Adaptation& adaptation) const;
  // Sets what adapters change and gives what they changed before; for what was checked, while no share is
  // held. A changed weight is made from the file's pages, in float32, and then takes the network's dtype,
  // whenever it is placed.
  void exchange(Adaptation& adaptation);

  // Throws ERR_MODEL_CORRUPT if a file of the weights was rewritten meanwhile.
  c10::IValue call(const std::string& method, std::vector<c10::IValue> arguments);
  void check_files() const;

  // The weights by their names, as they are placed now.
  std::unordered_map<std::string, at::Tensor> placed() const;

  // The mapped weights leave memory until the next call reads them again.
  void let_go() const;

  // May be called on any thread.
  torchreel_network_memory memory() const;

 private:
  struct Weight {
    torch::jit::Module owner;  // the submodule that holds the parameter
    std::string name;          // its name there
    std::string path;          // its name in the network
    at::Tensor host;           // on the file's pages
    at::Tensor pinned;         // `host` in page-locked memory, or undefined
  };
  struct Stage {
    std::vector<Weight> weights;
    std::weak_ptr<const Placement> placement;
  };

  void bind(const std::string& component, const torchreel_network_files& files, uint64_t max_header);
  void pin(Stage& stage);

  torch::jit::Module graph_;
  std::vector<Stage> stages_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  Adaptation adaptation_;
  at::Device device_;
  at::ScalarType dtype_;
  bool pins_;
  int64_t mapped_ = 0;                                    // bytes
  std::atomic<int64_t> copied_{0}, peak_{0}, pinned_{0};  // bytes
  std::atomic<size_t> placed_{0};                         // stages
};

}  // namespace torchreel
