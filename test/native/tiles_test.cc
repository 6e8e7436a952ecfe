// Tiles: a network that sees one pixel at a time must not notice them.
#include "networks/tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include "check.h"

using torchreel::in_tiles;

int main() {
  at::Tensor x = at::randn({1, 2, 22, 37}, at::kFloat);
  auto twice_as_large = [](const at::Tensor& tile) {
    return tile.repeat_interleave(2, 2).repeat_interleave(2, 3) * 3;
  };
  for (int64_t overlap : {0, 1, 2, 4}) {
    at::Tensor tiled = in_tiles(x, 8, overlap, twice_as_large);
    check(at::allclose(tiled, twice_as_large(x), 1e-5, 1e-6),
          "tiles with an overlap of " + std::to_string(overlap));
  }

  // Tiles of 0, 1 and 2: each goes over into the next by quarters.
  double value = 0;
  at::Tensor blend = in_tiles(at::randn({1, 1, 4, 12}, at::kFloat), 8, 4,
                              [&](const at::Tensor& tile) { return at::full_like(tile, value++); });
  at::Tensor row = at::tensor({0.f, 0.f, 0.f, 0.f, 0.f, 0.25f, 0.5f, 0.75f, 1.f, 1.25f, 1.5f, 1.75f});
  check(at::allclose(blend, row.expand_as(blend)), "the overlap goes over from one tile to the next");
  check_throws("ERR_INVALID_ARGUMENT", "larger than its overlap", [&] { in_tiles(x, 8, 8, twice_as_large); });
  return 0;
}
