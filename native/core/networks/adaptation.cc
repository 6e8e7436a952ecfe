#include "networks/adaptation.h"

#include <ATen/ops/cat.h>

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

void add_update(WeightChange& change, const torchreel_update& update) {
  at::Tensor up = find_tensor(update.file, update.up, change);
  at::Tensor down = find_tensor(update.file, update.down, change);
  if (up.dim() < 2 || down.dim() < 2 || up.numel() != up.size(0) * down.size(0)) {
    throw Error("ERR_MODEL_INCOMPATIBLE", std::string(update.file) + ": " + update.up + " and " +
                                              update.down + " do not fit each other");
  }
  double scale = update.scale;
  if (update.alpha) {
    at::Tensor alpha = find_tensor(update.file, update.alpha, change);
    if (alpha.numel() != 1) {
      throw Error("ERR_MODEL_INCOMPATIBLE",
                  std::string(update.file) + ": " + update.alpha + " is not one number");
    }
    scale *= alpha.item<double>() / static_cast<double>(down.size(0));
  }
  change.updates.push_back({up.flatten(1), down.flatten(1), scale});
}

}  // namespace

at::Tensor WeightChange::apply(const at::Tensor& base) const {
  at::Tensor weight = base.to(base.device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
  auto here = [&](const at::Tensor& tensor) { return tensor.to(weight.device(), at::kFloat); };
  for (const LowRankUpdate& update : updates) {
    weight.view({weight.size(0), -1})
        .addmm_(here(update.up), here(update.down), /*beta=*/1, /*alpha=*/update.scale);
  }
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
