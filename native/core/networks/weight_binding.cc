#include "networks/weight_binding.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "process/error.h"

namespace torchreel {
namespace {

constexpr size_t max_named = 10;

// A parameter without its weight.
struct Slot {
  torch::jit::Module owner;
  std::string name;
  at::Tensor placeholder;  // the shape, on one element
};

std::map<std::string, Slot> find_slots(const torch::jit::Module& graph) {
  std::map<std::string, Slot> slots;
  for (const auto& module : graph.named_modules()) {
    for (const auto& parameter : module.value.named_parameters(/*recurse=*/false)) {
      std::string prefix = module.name.empty() ? "" : module.name + ".";
      slots.emplace(prefix + parameter.name, Slot{module.value, parameter.name, parameter.value});
    }
  }
  return slots;
}

}  // namespace

void Misfits::add(const std::string& tensor) {
  if (count_++ < max_named) list_ += (list_.empty() ? "" : ", ") + tensor;
}

void Misfits::print(std::ostream& out) const {
  if (count_ == 0) return;
  out << "; " << count_ << " " << kind_ << ": " << list_ << (count_ > max_named ? ", …" : "");
}

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

WeightBinding bind_weights(const torch::jit::Module& graph, const torchreel_network_files& files,
                           const WeightNames& names, uint64_t max_header,
                           const std::function<void(const std::string&)>& warn) {
  std::string network = files.role;  // in words
  std::ranges::replace(network, '_', ' ');
  if (files.weight_count == 0) throw invalid_argument("the " + network + " has no weights");
  std::map<std::string, Slot> slots = find_slots(graph);

  WeightBinding binding;
  Misfits missing("missing"), twice("there twice"), misfit("of another shape or type");
  Misfits unneeded("not needed");
  struct Found {
    std::string name;  // in the file
    at::Tensor tensor;
  };
  std::map<std::string, Found> found;
  for (size_t i = 0; i < files.weight_count; ++i) {
    auto file = SafetensorsFile::open(files.weights[i], max_header);
    binding.files.push_back(file);
    if (!file->not_mapped().empty())
      warn(std::string(files.weights[i]) + " cannot be mapped (" + file->not_mapped() +
           "), so it was read into memory; on another disk it would be mapped, which is faster");
    for (const auto& [name, entry] : file->entries()) {
      if (names.is_bookkeeping(name)) continue;
      std::string slot_name = slots.contains(name) ? name : names.current_name(name);
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
    warn(message.str());
  }
  for (auto& [path, slot] : slots)
    binding.weights.push_back({slot.owner, slot.name, path, found.at(path).tensor});
  return binding;
}

}  // namespace torchreel
