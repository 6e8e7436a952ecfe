#include "networks/network.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "packed_weight.h"
#include "process/devices.h"
#include "process/error.h"
#include "process/faults.h"

namespace torchreel {
namespace {

torch::jit::Module load_graph(const std::string& path) {
  faults::point();
  try {
    return torch::jit::load(path, at::kCPU);
  } catch (const std::exception& error) {
    throw Error(code_of(error, "ERR_MODEL_CORRUPT"),
                path + " cannot be loaded as a TorchScript graph: " + std::string(short_message(error)));
  }
}

// For each stage the prefixes of its parameters' names.
using NamePrefixes = std::vector<std::vector<std::string>>;

NamePrefixes stage_prefixes(const torch::jit::Module& graph) {
  auto method = graph.find_method("stages");
  if (!method) return {{""}};
  NamePrefixes stages;
  c10::List<c10::IValue> listed = (*method)({}).toList();
  for (const c10::IValue& stage : listed) {
    stages.emplace_back();
    c10::List<c10::IValue> names = stage.toList();
    for (const c10::IValue& name : names) stages.back().push_back(name.toStringRef());
  }
  return stages;
}

// The stage with the longest prefix of the name.
size_t find_stage(const std::string& parameter, const NamePrefixes& stages) {
  size_t stage = 0, length = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    for (const std::string& prefix : stages[i]) {
      if (prefix.size() <= length || !parameter.starts_with(prefix)) continue;
      stage = i;
      length = prefix.size();
    }
  }
  return stage;
}

// A copy to compute with.
at::Tensor make_copy(const at::Tensor& tensor, at::Device device, at::ScalarType dtype) {
  return tensor.to(device, dtype, /*non_blocking=*/tensor.is_pinned(), /*copy=*/true, kernel_layout(tensor));
}

// Copies to a device go through a stream of their own while the device computes.
class CopyStream {
 public:
  explicit CopyStream(at::Device device) {
    if (device.is_cpu()) return;
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
    guard_.emplace(*stream_);
  }
  void wait() const {
    if (stream_) stream_->synchronize();
  }

 private:
  std::optional<c10::Stream> stream_;
  std::optional<c10::StreamGuard> guard_;
};

}  // namespace

at::MemoryFormat kernel_layout(const at::Tensor& weight) {
  return weight.dim() == 4   ? at::MemoryFormat::ChannelsLast
         : weight.dim() == 5 ? at::MemoryFormat::ChannelsLast3d
                             : at::MemoryFormat::Contiguous;
}

class Network::Placement {
 public:
  Placement(Network& network, const Stage& stage, at::ScalarType dtype) : network_(network), stage_(stage) {
    faults::point();
    std::vector<at::Tensor> placed;
    CopyStream stream(network.device_);
    for (const Weight& weight : stage.weights) {
      auto change = network.adaptation_.find(weight.path);
      bool changed = change != network.adaptation_.end();
      at::Tensor value = changed                   ? change->second.apply(weight.host.to(network.device_))
                         : weight.pinned.defined() ? weight.pinned
                                                   : weight.host;
      at::ScalarType type = weight.float32 ? at::kFloat : dtype;
      if (network.rounded_ != at::kFloat && !weight.float32) value = value.to(network.rounded_);
      bool there = value.device() == network.device_ && value.scalar_type() == type;
      if (network.packs_ && weight.packed && type == at::kBFloat16) {
        placed.push_back(pack(value));
      } else {
        placed.push_back(there ? value : make_copy(value, network.device_, type));
      }
      if (placed.back().is_same(weight.host)) continue;
      copied_ += static_cast<int64_t>(placed.back().nbytes());
      network.drop_pages(weight.host);
    }
    stream.wait();
    for (const Weight& weight : stage.weights) before_.push_back(weight.owner.attr(weight.name).toTensor());
    for (size_t i = 0; i < placed.size(); ++i) put(stage.weights[i], placed[i]);
    network.peak_ = std::max(network.peak_.load(), network.copied_ += copied_);
    ++network.placed_;
  }

  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;

  ~Placement() {
    // The memory of the copies goes back to the stream that they were made on, so whatever computes with them
    // must be done.
    if (copied_ > 0) finish_work(network_.device_);
    for (size_t i = 0; i < before_.size(); ++i) put(stage_.weights[i], before_[i]);
    network_.copied_ -= copied_;
    --network_.placed_;
  }

 private:
  static void put(Weight weight, const at::Tensor& tensor) { weight.owner.setattr(weight.name, tensor); }

  Network& network_;
  const Stage& stage_;
  std::vector<at::Tensor> before_;  // what the graph held in their place
  int64_t copied_ = 0;
};

Network::~Network() = default;

Network::Network(const torchreel_network_files& files, at::Device device, at::ScalarType dtype,
                 const NetworkOptions& options)
    : graph_(load_graph(files.graph)),
      device_(device),
      dtype_(dtype),
      rounded_(options.rounded),
      pins_(options.pinned && !device.is_cpu()),
      packs_(options.packed && device.is_cpu() && multiplies_bfloat16()) {
  graph_.eval();
  bind(files, options);
}

void Network::bind(const torchreel_network_files& files, const NetworkOptions& options) {
  WeightBinding binding = bind_weights(graph_, files, options.names, options.max_header, options.warn);
  files_ = std::move(binding.files);
  NamePrefixes prefixes = stage_prefixes(graph_);
  stages_.resize(prefixes.size());
  std::set<std::string> float32(files.float32, files.float32 + files.float32_count);
  for (BoundWeight& weight : binding.weights) {
    mapped_ += static_cast<int64_t>(weight.host.nbytes());
    bool stays_float32 = float32.contains(weight.path);
    bool packed =
        weight.name == "weight" && weight.owner.hasattr("packable") && weight.owner.attr("packable").toBool();
    stages_[find_stage(weight.path, prefixes)].weights.push_back(
        {std::move(weight), {}, stays_float32, packed});
  }
}

WeightHold Network::place(size_t stage) {
  std::shared_ptr<const Placement> placement = stages_.at(stage).placement.lock();
  if (!placement) {
    if (pins_) pin(stages_[stage]);
    placement = std::make_shared<Placement>(*this, stages_[stage], dtype_);
    stages_[stage].placement = placement;
  }
  return placement;
}

WeightHold Network::place() {
  std::vector<WeightHold> holds;
  for (size_t stage = 0; stage < stages(); ++stage) holds.push_back(place(stage));
  return std::make_shared<std::vector<WeightHold>>(std::move(holds));
}

WeightHold Network::place_as(at::ScalarType dtype) {
  std::vector<WeightHold> holds;
  for (const Stage& stage : stages_) holds.push_back(std::make_shared<Placement>(*this, stage, dtype));
  return std::make_shared<std::vector<WeightHold>>(std::move(holds));
}

// A weight that an adapter changes is not pinned: it is made from the file's pages whenever it is placed.
void Network::pin(Stage& stage) {
  for (Weight& weight : stage.weights) {
    if (weight.pinned.defined() || adaptation_.contains(weight.path)) continue;
    weight.pinned = make_copy(weight.host, at::kCPU, weight.float32 ? at::kFloat : dtype_).pin_memory();
    pinned_ += static_cast<int64_t>(weight.pinned.nbytes());
  }
}

void Network::swap_adaptation(Adaptation& adaptation) {
  TORCH_CHECK(placed_ == 0, "weights must not change while they are placed");
  std::swap(adaptation_, adaptation);
}

void Network::check(const Adaptation& adaptation) const {
  std::map<std::string, const Weight*> by_path;
  for (const Stage& stage : stages_) {
    for (const Weight& weight : stage.weights) by_path.emplace(weight.path, &weight);
  }
  Misfits unknown("unknown"), misfit("of another shape");
  for (const auto& [path, change] : adaptation) {
    auto found = by_path.find(path);
    if (found == by_path.end()) {
      unknown.add(path);
      continue;
    }
    const at::Tensor& weight = found->second->host;
    bool fits = weight.dim() >= 2 || (change.updates.empty() && change.rows.empty());
    for (const Difference& difference : change.differences)
      fits = fits && difference.tensor.numel() == weight.numel();
    for (const LowRankUpdate& update : change.updates) {
      fits = fits && update.fits(weight);
    }
    for (const at::Tensor& rows : change.rows) {
      fits = fits && weight.dim() == 2 && rows.dim() == 2 && rows.size(1) == weight.size(1);
    }
    if (!fits) misfit.add(path + " " + shape_text(weight.sizes()));
  }
  if (unknown.count() + misfit.count() == 0) return;
  std::ostringstream message;
  message << "the adapters do not fit the model";
  unknown.print(message);
  misfit.print(message);
  throw Error("ERR_MODEL_INCOMPATIBLE", message.str());
}

c10::IValue Network::call(const std::string& method, std::vector<c10::IValue> arguments) {
  // The profiling executor makes the first calls slow, and the later ones no faster.
  torch::jit::GraphOptimizerEnabledGuard simple_executor(false);
  faults::point();
  c10::IValue result = graph_.get_method(method)(std::move(arguments));
  check_files();
  return result;
}

void Network::check_files() const {
  for (const auto& file : files_) file->check();
}

std::unordered_map<std::string, at::Tensor> Network::placed() const {
  std::unordered_map<std::string, at::Tensor> weights;
  for (const Stage& stage : stages_) {
    for (const Weight& weight : stage.weights)
      weights.emplace(weight.path, weight.owner.attr(weight.name).toTensor());
  }
  return weights;
}

at::Tensor Network::gather_rows(const std::string& table, const at::Tensor& rows) const {
  for (const Stage& stage : stages_) {
    auto weight = std::ranges::find(stage.weights, table, &Weight::path);
    if (weight == stage.weights.end()) continue;
    at::Tensor gathered = weight->host.index_select(0, rows).to(device_, dtype_);
    check_files();
    return gathered;
  }
  throw Error("ERR_INTERNAL", "the network has no table " + table);
}

void Network::drop_pages() const {
  for (const auto& file : files_) file->drop_pages();
}

void Network::drop_pages(const at::Tensor& weight) const {
  for (const auto& file : files_) file->drop_pages(weight);
}

torchreel_network_memory Network::memory() const {
  return {.mapped = mapped_,
          .copied = copied_,
          .peak_copied = peak_,
          .pinned = pinned_,
          .placed = placed_ >= stages()};
}

}  // namespace torchreel
