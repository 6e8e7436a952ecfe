#include "products.h"

namespace torchreel {

TORCHREEL_CLONED void transpose_to_panels(const float* rows, int64_t stride, int64_t count, int64_t depth,
                                          float* panels) {
  int64_t padded = padded_to_lanes(count);
  for (int64_t row = 0; row < padded; row += lanes) {
    int64_t panel = row / panel_width * panel_width, width = std::min(panel_width, padded - panel);
    float* to = panels + panel * depth + (row - panel);
    for (int64_t i = 0; i < depth; i += lanes) {
      Floats block[lanes] = {};
      for (int64_t lane = 0; lane < std::min(lanes, count - row); ++lane) {
        block[lane] = *reinterpret_cast<const Floats*>(rows + (row + lane) * stride + i);
      }
      transpose(block);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        *reinterpret_cast<Floats*>(to + (i + lane) * width) = block[lane];
      }
    }
  }
}

}  // namespace torchreel
