#include "modelscope/weight_names.h"

#include <utility>

namespace torchreel::modelscope {
namespace {

// A tensor of older text encoder files that no network needs.
bool is_bookkeeping(const std::string& name) { return name == "text_model.embeddings.position_ids"; }

// Published VAE files name the attention as diffusers did before 0.15.
std::string current_name(const std::string& name) {
  static const std::pair<std::string, std::string> renames[] = {
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  if (name.find(".attentions.") == std::string::npos) return name;
  for (const auto& [old_part, new_part] : renames) {
    if (size_t at = name.find(old_part); at != std::string::npos)
      return std::string(name).replace(at, old_part.size(), new_part);
  }
  return name;
}

}  // namespace

constinit const WeightNames weight_names{.is_bookkeeping = is_bookkeeping, .current_name = current_name};

}  // namespace torchreel::modelscope
