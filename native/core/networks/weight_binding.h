// The weights of a checkpoint for the parameters of a graph, which are bound to each other by name.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "files/safetensors.h"
#include "torchreel_core.h"

namespace torchreel {

// How the published files of a family name weights, where their names differ from the graph's.
struct WeightNames {
  // Whether a tensor of a file is not a weight: it is skipped.
  bool (*is_bookkeeping)(const std::string& name) = [](const std::string&) { return false; };
  // The graph's name of a weight, by a name that it had in older files.
  std::string (*current_name)(const std::string& name) = [](const std::string& name) { return name; };
};

// A parameter of a graph, and its weight.
struct BoundWeight {
  torch::jit::Module owner;  // the submodule that has the parameter
  std::string name;          // its name there
  std::string path;          // its name in the network
  at::Tensor host;           // on the file's pages
};

struct WeightBinding {
  std::vector<BoundWeight> weights;  // by path
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
};

// Maps the files, and finds the weight of each parameter. Reads no weight. Warns of tensors that the network
// does not need, and of files that cannot be mapped. Throws ERR_MODEL_CORRUPT for a broken file or one whose
// header has more than `max_header` bytes, ERR_MODEL_INCOMPATIBLE naming up to ten tensors that are missing
// or do not fit.
WeightBinding bind_weights(const torch::jit::Module& graph, const torchreel_network_files& files,
                           const WeightNames& names, uint64_t max_header,
                           const std::function<void(const std::string&)>& warn);

// Up to ten tensors with the same problem, and how many there are.
class Misfits {
 public:
  explicit Misfits(std::string kind) : kind_(std::move(kind)) {}
  void add(const std::string& tensor);
  void print(std::ostream& out) const;
  size_t count() const { return count_; }

 private:
  std::string kind_;
  std::string list_;
  size_t count_ = 0;
};

// Such as `[4, 320]`.
std::string shape_text(at::IntArrayRef shape);

}  // namespace torchreel
