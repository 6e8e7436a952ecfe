// Weights that lie where and how a network computes, for as long as somebody has this.
#pragma once

#include <memory>

namespace torchreel {

using WeightHold = std::shared_ptr<const void>;

}  // namespace torchreel
