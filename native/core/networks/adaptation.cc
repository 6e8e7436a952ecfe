#include "networks/adaptation.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>

#include "files/safetensors.h"
#include "process/error.h"

namespace torchreel {
namespace {

at::Tensor find_tensor(const char* path, const char* name, WeightChange& change) {
  auto file = SafetensorsFile::open(path);
  auto entry = file->entries().find(name);
  if (entry == file->entries().end() || !c10::isFloatingType(entry->second.dtype)) {
    throw Error("ERR_MODEL_INCOMPATIBLE", std::string(path) + " has no floating-point tensor " + name);
  }
  change.files.push_back(file);
  return mapped_tensor(file, name);
}

// One number of any type: trainers write torch.tensor(rank), an integer.
double read_number(const char* path, const char* name) {
  auto file = SafetensorsFile::open(path);
  auto entry = file->entries().find(name);
  at::Tensor number = entry == file->entries().end() ? at::Tensor() : mapped_tensor(file, name);
  if (!number.defined() || number.numel() != 1) {
    throw Error("ERR_MODEL_INCOMPATIBLE", std::string(path) + ": " + name + " is not one number");
  }
  return number.to(at::kDouble).item<double>();
}

void add_update(WeightChange& change, const torchreel_update& update) {
  at::Tensor up = find_tensor(update.file, update.up, change);
  if (!update.down) {
    change.differences.push_back({up, update.scale});
    return;
  }
  at::Tensor down = find_tensor(update.file, update.down, change);
  if (up.dim() < 2 || down.dim() < 2 || up.numel() != up.size(0) * down.size(0)) {
    throw Error("ERR_MODEL_INCOMPATIBLE", std::string(update.file) + ": " + update.up + " and " +
                                              update.down + " do not fit each other");
  }
  double scale = update.scale;
  if (update.alpha) scale *= read_number(update.file, update.alpha) / static_cast<double>(down.size(0));
  change.updates.push_back({up.flatten(1), down.flatten(1), scale});
}

}  // namespace

bool LowRankUpdate::fits(const at::Tensor& weight) const {
  if (up.size(0) == weight.size(0)) return down.size(1) * weight.size(0) == weight.numel();
  if (weight.dim() < 3) return false;
  int64_t k = weight.size(2), elements = up.size(0) * down.size(1);
  return up.size(0) == weight.size(0) * k && down.size(1) == weight.size(1) * k &&
         (elements == weight.numel() || elements == weight.numel() * k);
}

at::Tensor WeightChange::apply(const at::Tensor& base) const {
  at::Tensor weight = base.to(base.device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
  auto here = [&](const at::Tensor& tensor) { return tensor.to(weight.device(), at::kFloat); };
  for (const LowRankUpdate& update : updates) {
    at::Tensor up = here(update.up), down = here(update.down);
    if (up.size(0) * down.size(1) == weight.numel()) {
      weight.view({up.size(0), -1}).addmm_(up, down, /*beta=*/1, /*alpha=*/update.scale);
    } else {
      // A kernel of k × 1 × 1 that was adapted as one of k × k.
      weight.view(-1).add_(at::mm(up, down).view({weight.numel(), -1}).mean(1), update.scale);
    }
  }
  for (const Difference& difference : differences)
    weight.add_(here(difference.tensor).view_as(weight), difference.scale);
  if (!rows.empty()) {
    std::vector<at::Tensor> table{weight};
    for (const at::Tensor& more : rows) table.push_back(here(more));
    weight = at::cat(table);
  }
  for (const auto& file : files) file->check();
  return weight;
}

Adaptation read_adaptation(const torchreel_adaptation& adaptation) {
  Adaptation changes;
  for (size_t i = 0; i < adaptation.update_count; ++i) {
    const torchreel_update& update = adaptation.updates[i];
    add_update(changes[update.weight], update);
  }
  for (size_t i = 0; i < adaptation.row_count; ++i) {
    const torchreel_rows& rows = adaptation.rows[i];
    WeightChange& change = changes[rows.weight];
    at::Tensor table = find_tensor(rows.file, rows.tensor, change);
    change.rows.push_back(table.dim() == 1 ? table.unsqueeze(0) : table);
  }
  return changes;
}

}  // namespace torchreel
