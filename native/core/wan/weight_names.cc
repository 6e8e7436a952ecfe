#include "wan/weight_names.h"

namespace torchreel::wan {
namespace {

// A weight of models that start from an image, which the reference ignores too.
bool is_bookkeeping(const std::string& name) { return name.find(".norm_added_q.") != std::string::npos; }

// Text encoder files name their table by either of its two places, or by both.
std::string current_name(const std::string& name) {
  return name == "encoder.embed_tokens.weight" ? "shared.weight" : name;
}

}  // namespace

constinit const WeightNames weight_names{.is_bookkeeping = is_bookkeeping, .current_name = current_name};

}  // namespace torchreel::wan
