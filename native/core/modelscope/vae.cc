#include "modelscope/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include "process/faults.h"

namespace torchreel {

template <typename Compute>
at::Tensor Vae::in_range(Compute&& compute) {
  at::Tensor result = compute();
  faults::spoil(result);
  if (dtype_ != at::kHalf || result.isfinite().all().item<bool>()) return result;
  wide_ = network_.place_as(at::kFloat);
  dtype_ = at::kFloat;
  listener_.warning(listener_.context, "the VAE overflowed float16, so that frames were computed in float32");
  return compute();
}

at::Tensor Vae::encode(const at::Tensor& image) {
  return in_range([&] {
    auto parts = network_.call("encode", {image.to(dtype_)}).toTupleRef().elements().vec();
    return at::cat({parts[0].toTensor(), parts[1].toTensor()}, 1).to(at::kFloat);
  });
}

at::Tensor Vae::decode(const at::Tensor& latents) {
  return in_range([&] { return network_.call("decode", {latents.to(dtype_)}).toTensor().to(at::kFloat); });
}

}  // namespace torchreel
