// Weights whose names in published checkpoints of the family differ from those in the graphs.
#pragma once

#include "networks/weight_binding.h"

namespace torchreel::wan {

extern const WeightNames weight_names;

}  // namespace torchreel::wan
