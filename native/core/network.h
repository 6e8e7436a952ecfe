// One network: a TorchScript graph without weights, and the weights of a checkpoint bound to it by name.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

#include "adaptation.h"
#include "torchreel_core.h"

namespace torchreel {

class Network {
 public:
  // Loads the graph, maps the weights and checks that they fit each other. Copies no weight.
  // Throws ERR_MODEL_CORRUPT for a broken file, ERR_MODEL_INCOMPATIBLE naming up to ten tensors that do not
  // fit.
  Network(const std::string& component, const torchreel_network_files& files, at::Device device,
          at::ScalarType dtype);

  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Puts the weights where and how the network computes. On the CPU in the file's own dtype that is where
  // they are. Idempotent.
  void load();
  // Gives the copies back. The host's weights stay mapped, so nothing is copied from the device.
  void unload();

  // Replaces what adapters change and gives back what they changed before. A changed weight is made anew from
  // the file's pages, in float32, and then takes the network's dtype; one that is no longer changed is the
  // file's again. If this throws, nothing has changed.
  // Throws ERR_MODEL_INCOMPATIBLE for a weight that the network lacks or that has another shape.
  Adaptation adapt(Adaptation adaptation);

  c10::IValue call(const std::string& method, std::vector<c10::IValue> arguments);

 private:
  struct Weight {
    torch::jit::Module owner;  // the submodule that holds the parameter
    std::string name;          // its name there
    std::string path;          // its name in the network
    at::Tensor host;           // on the file's pages
  };

  void bind(const std::string& component, const torchreel_network_files& files);
  void check(const Adaptation& adaptation) const;
  void place(Weight& weight);

  torch::jit::Module graph_;
  std::vector<Weight> weights_;
  Adaptation adaptation_;
  at::Device device_;
  at::ScalarType dtype_;
  bool loaded_ = false;
};

// Keeps a network on its device for a scope; with `offload` its copy goes when the scope ends.
class Resident {
 public:
  Resident(Network& network, bool offload) : network_(network), offload_(offload) { network_.load(); }
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;
  ~Resident() {
    if (offload_) network_.unload();
  }

 private:
  Network& network_;
  bool offload_;
};

}  // namespace torchreel
