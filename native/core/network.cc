#include "network.h"

#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <map>
#include <sstream>

#include "error.h"
#include "safetensors.h"

namespace torchreel {
namespace {

constexpr size_t max_named = 10;

// Names that published checkpoints hold and no network needs.
bool is_bookkeeping(const std::string& name) { return name == "text_model.embeddings.position_ids"; }

// Published VAE files carry the attention's names from before diffusers 0.15.
std::string current_name(std::string name) {
  static const std::pair<std::string, std::string> renames[] = {
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  if (name.find(".attentions.") == std::string::npos) return name;
  for (const auto& [old_part, new_part] : renames) {
    if (size_t at = name.find(old_part); at != std::string::npos)
      return name.replace(at, old_part.size(), new_part);
  }
  return name;
}

// Up to ten complaints of one kind, and how many there are.
class Complaints {
 public:
  explicit Complaints(std::string kind) : kind_(std::move(kind)) {}
  void add(const std::string& what) {
    if (count_++ < max_named) list_ += (list_.empty() ? "" : ", ") + what;
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
  try {
    return torch::jit::load(path, at::kCPU);
  } catch (const c10::Error& error) {
    throw Error("ERR_MODEL_CORRUPT", path + " is no TorchScript graph: " + error.what_without_backtrace());
  }
}

}  // namespace

Network::Network(const std::string& component, const torchreel_network_files& files, at::Device device,
                 at::ScalarType dtype)
    : graph_(load_graph(files.graph)), device_(device), dtype_(dtype) {
  graph_.eval();
  bind(component, files);
}

void Network::bind(const std::string& component, const torchreel_network_files& files) {
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

  Complaints missing("missing"), extra("unknown"), misfit("of another shape or type");
  std::map<std::string, at::Tensor> found;
  for (size_t i = 0; i < files.weight_count; ++i) {
    auto file = SafetensorsFile::open(files.weights[i]);
    for (const auto& [name, entry] : file->entries()) {
      if (is_bookkeeping(name)) continue;
      std::string slot_name = slots.contains(name) ? name : current_name(name);
      auto slot = slots.find(slot_name);
      if (slot == slots.end() || found.contains(slot_name)) {
        extra.add(name);
        continue;
      }
      at::IntArrayRef wanted = slot->second.placeholder.sizes();
      if (wanted != at::IntArrayRef(entry.shape)) {
        misfit.add(name + " " + shape_text(entry.shape) + " instead of " + shape_text(wanted));
      } else if (!c10::isFloatingType(entry.dtype)) {
        misfit.add(name + " as " + c10::toString(entry.dtype));
      }
      found.emplace(slot_name, mapped_tensor(file, name));
    }
  }
  for (const auto& [name, slot] : slots) {
    if (!found.contains(name)) missing.add(name);
  }
  if (missing.count() + extra.count() + misfit.count() > 0) {
    std::ostringstream message;
    message << "the weights of the " << component << " (" << files.weights[0]
            << ") do not fit its config.json";
    missing.print(message);
    extra.print(message);
    misfit.print(message);
    throw Error("ERR_MODEL_INCOMPATIBLE", message.str());
  }
  for (auto& [name, slot] : slots) weights_.push_back({slot.owner, slot.name, name, found.at(name)});
}

void Network::load() {
  if (loaded_) return;
  for (Weight& weight : weights_) place(weight);
  loaded_ = true;
}

void Network::place(Weight& weight) {
  auto change = adaptation_.find(weight.path);
  at::Tensor value = change == adaptation_.end() ? weight.host : change->second.of(weight.host.to(device_));
  // `to` gives the same tensor back where device and dtype already hold.
  weight.owner.setattr(weight.name, value.to(device_, dtype_));
}

void Network::unload() {
  if (!loaded_) return;
  for (Weight& weight : weights_) weight.owner.setattr(weight.name, weight.host);
  loaded_ = false;
}

Adaptation Network::adapt(Adaptation adaptation) {
  check(adaptation);
  std::swap(adaptation_, adaptation);
  if (!loaded_) return adaptation;
  loaded_ = false;  // should a weight find no room, the next job loads all of them anew
  try {
    for (Weight& weight : weights_) {
      if (adaptation_.contains(weight.path) || adaptation.contains(weight.path)) place(weight);
    }
  } catch (...) {
    std::swap(adaptation_, adaptation);
    throw;
  }
  loaded_ = true;
  return adaptation;
}

void Network::check(const Adaptation& adaptation) const {
  std::map<std::string, const Weight*> by_path;
  for (const Weight& weight : weights_) by_path.emplace(weight.path, &weight);
  Complaints unknown("unknown"), misfit("of another shape");
  for (const auto& [path, change] : adaptation) {
    auto found = by_path.find(path);
    if (found == by_path.end()) {
      unknown.add(path);
      continue;
    }
    const at::Tensor& weight = found->second->host;
    bool fits = weight.dim() >= 2;
    for (const LowRankUpdate& update : change.updates) {
      fits = fits && update.up.size(0) == weight.size(0) &&
             update.down.size(1) * weight.size(0) == weight.numel();
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
  // The profiling executor makes the first calls slow and the later ones no faster.
  torch::jit::GraphOptimizerEnabledGuard simple_executor(false);
  return graph_.get_method(method)(std::move(arguments));
}

}  // namespace torchreel
