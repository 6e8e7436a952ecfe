#include "families.h"

#include <map>

#include "modelscope/unet.h"
#include "modelscope/vae.h"
#include "modelscope/weight_names.h"
#include "process/error.h"

namespace torchreel {
namespace {

template <typename Model>
std::unique_ptr<Denoiser> denoiser(Network& network) {
  return std::make_unique<Model>(network);
}

template <typename Model>
std::unique_ptr<Autoencoder> autoencoder(Network& network, const LatentScale& scale) {
  return std::make_unique<Model>(network, scale);
}

// By the names of lib/families/.
const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> all{
      {"modelscope", {modelscope::weight_names, denoiser<modelscope::UNet>, autoencoder<modelscope::Vae>}},
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
