#include "families.h"

#include <map>

#include "modelscope/clip_text.h"
#include "modelscope/unet.h"
#include "modelscope/vae.h"
#include "modelscope/weight_names.h"
#include "process/error.h"
#include "wan/causal_vae.h"
#include "wan/transformer.h"
#include "wan/umt5.h"
#include "wan/weight_names.h"

namespace torchreel {
namespace {

template <typename Model>
std::unique_ptr<TextEncoder> text_encoder(Network& network) {
  return std::make_unique<Model>(network);
}

template <typename Model>
std::unique_ptr<Denoiser> denoiser(Network& network) {
  return std::make_unique<Model>(network);
}

template <typename Model>
std::unique_ptr<Autoencoder> autoencoder(Network& network, const LatentScale& scale) {
  return std::make_unique<Model>(network, scale);
}

Precision one_dtype(at::ScalarType chosen) { return {chosen, chosen, chosen}; }

// The VAE is small and its reference is run in float32. UMT5 exceeds the range of float16.
Precision wan_precision(at::ScalarType chosen) {
  return {chosen == at::kHalf ? at::kFloat : chosen, chosen, at::kFloat};
}

NoiseLayout noise_of_frames(at::ScalarType chosen) { return {chosen, true}; }
NoiseLayout noise_of_videos(at::ScalarType) { return {at::kFloat, false}; }

// By the names of lib/families/.
const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> all{
      {"modelscope",
       {modelscope::weight_names, one_dtype, noise_of_frames, text_encoder<modelscope::ClipText>,
        denoiser<modelscope::UNet>, autoencoder<modelscope::Vae>}},
      {"wan",
       {wan::weight_names, wan_precision, noise_of_videos, text_encoder<wan::UMT5>,
        denoiser<wan::Transformer>, autoencoder<wan::CausalVae>}},
  };
  return all;
}

}  // namespace

const Family& family_named(const std::string& name) {
  auto family = families().find(name);
  if (family == families().end()) throw invalid_argument("there is no family of models named '" + name + "'");
  return family->second;
}

}  // namespace torchreel
