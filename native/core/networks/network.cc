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

#include "process/devices.h"
#include "process/error.h"
#include "process/faults.h"

namespace torchreel {
namespace {

constexpr size_t max_named = 10;

// Up to ten tensors with the same problem, and how many there are.
class Misfits {
 public:
  explicit Misfits(std::string kind) : kind_(std::move(kind)) {}
  void add(const std::string& tensor) {
    if (count_++ < max_named) list_ += (list_.empty() ? "" : ", ") + tensor;
  }
  void print(std::ostream& out) const {
    if (count_ == 0) return;
    out << "; " << count_ << " " << kind_ << ": " << list_ << (count_ > max_named ? ", …" : "");
  }
  size_t count() const { return count_; }

 private:
  std::string kind_;
  std::string list_;
  size_t count_ = 0;
};

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

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

// A copy to compute with. Kernels have their channels last, as activations have.
at::Tensor make_copy(const at::Tensor& tensor, at::Device device, at::ScalarType dtype) {
  auto layout = tensor.dim() == 4   ? at::MemoryFormat::ChannelsLast
                : tensor.dim() == 5 ? at::MemoryFormat::ChannelsLast3d
                                    : at::MemoryFormat::Contiguous;
  return tensor.to(device, dtype, /*non_blocking=*/tensor.is_pinned(), /*copy=*/true, layout);
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

class Network::Placement {
 public:
  Placement(Network& network, const Stage& stage, at::ScalarType dtype) : network_(network), stage_(stage) {
    faults::point();
    std::vector<at::Tensor> placed;
    bool from_pages = false;
    CopyStream stream(network.device_);
    for (const Weight& weight : stage.weights) {
      auto change = network.adaptation_.find(weight.path);
      bool changed = change != network.adaptation_.end();
      at::Tensor value = changed                   ? change->second.apply(weight.host.to(network.device_))
                         : weight.pinned.defined() ? weight.pinned
                                                   : weight.host;
      at::ScalarType type = weight.float32 ? at::kFloat : dtype;
      bool there = value.device() == network.device_ && value.scalar_type() == type;
      placed.push_back(there ? value : make_copy(value, network.device_, type));
      if (placed.back().is_same(weight.host)) {
        from_pages = true;
      } else {
        copied_ += static_cast<int64_t>(placed.back().nbytes());
      }
    }
    stream.wait();
    if (!from_pages) network.drop_pages();
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
      pins_(options.pinned && !device.is_cpu()) {
  graph_.eval();
  bind(files, options);
}

void Network::bind(const torchreel_network_files& files, const NetworkOptions& options) {
  std::string network = files.role;  // in words
  std::ranges::replace(network, '_', ' ');
  if (files.weight_count == 0) throw invalid_argument("the " + network + " has no weights");
  struct Slot {
    torch::jit::Module owner;
    std::string name;
    at::Tensor placeholder;  // the shape, on one element
  };
  std::map<std::string, Slot> slots;
  for (const auto& module : graph_.named_modules()) {
    for (const auto& parameter : module.value.named_parameters(/*recurse=*/false)) {
      std::string prefix = module.name.empty() ? "" : module.name + ".";
      slots.emplace(prefix + parameter.name, Slot{module.value, parameter.name, parameter.value});
    }
  }

  Misfits missing("missing"), twice("there twice"), misfit("of another shape or type");
  Misfits unneeded("not needed");
  struct Found {
    std::string name;  // in the file
    at::Tensor tensor;
  };
  std::map<std::string, Found> found;
  for (size_t i = 0; i < files.weight_count; ++i) {
    auto file = SafetensorsFile::open(files.weights[i], options.max_header);
    files_.push_back(file);
    if (!file->not_mapped().empty())
      options.warn(std::string(files.weights[i]) + " cannot be mapped (" + file->not_mapped() +
                   "), so it was read into memory; on another disk it would be mapped, which is faster");
    for (const auto& [name, entry] : file->entries()) {
      if (options.names.is_bookkeeping(name)) continue;
      std::string slot_name = slots.contains(name) ? name : options.names.current_name(name);
      auto slot = slots.find(slot_name);
      auto before = found.find(slot_name);
      // A weight may be there by its name and by an older one; then the older one is not read.
      bool same = before != found.end() && (name == slot_name) == (before->second.name == slot_name);
      if (slot == slots.end() || same) {
        (slot == slots.end() ? unneeded : twice).add(name);
        continue;
      }
      if (before != found.end() && name != slot_name) continue;
      at::IntArrayRef expected = slot->second.placeholder.sizes();
      bool fits = expected == at::IntArrayRef(entry.shape);
      if (!fits) {
        misfit.add(name + " " + shape_text(entry.shape) + " instead of " + shape_text(expected));
      } else if (!c10::isFloatingType(entry.dtype)) {
        misfit.add(name + " as " + c10::toString(entry.dtype));
      }
      found.insert_or_assign(slot_name, Found{name, fits ? mapped_tensor(file, name) : at::Tensor()});
    }
  }
  for (const auto& [name, slot] : slots) {
    if (!found.contains(name)) missing.add(name);
  }
  bool nothing_fits = found.empty();  // the weights are of another network
  if (missing.count() + twice.count() + misfit.count() > 0 || nothing_fits) {
    std::ostringstream message;
    message << "the weights of the " << network << " (" << files.weights[0] << ") do not fit its config.json";
    missing.print(message);
    twice.print(message);
    misfit.print(message);
    unneeded.print(message);
    throw Error("ERR_MODEL_INCOMPATIBLE", message.str());
  }
  if (unneeded.count() > 0) {
    std::ostringstream message;
    message << "the weights of the " << network
            << " have tensors that the network does not need, and that are ignored";
    unneeded.print(message);
    options.warn(message.str());
  }
  NamePrefixes prefixes = stage_prefixes(graph_);
  stages_.resize(prefixes.size());
  std::set<std::string> float32(files.float32, files.float32 + files.float32_count);
  for (auto& [name, slot] : slots) {
    const at::Tensor& host = found.at(name).tensor;
    mapped_ += static_cast<int64_t>(host.nbytes());
    stages_[find_stage(name, prefixes)].weights.push_back(
        {slot.owner, slot.name, name, host, {}, float32.contains(name)});
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

torchreel_network_memory Network::memory() const {
  return {.mapped = mapped_,
          .copied = copied_,
          .peak_copied = peak_,
          .pinned = pinned_,
          .placed = placed_ >= stages()};
}

}  // namespace torchreel
