#include "requests.h"

#include <utility>

#include "arguments.h"

namespace {

// The names of the networks' roles in JavaScript and in the core.
constexpr std::pair<const char*, const char*> roles[] = {
    {"textEncoder", "text_encoder"}, {"denoiser", "denoiser"}, {"vae", "vae"}};

std::string text(const Napi::Object& object, const char* name) {
  return string_argument(object.Get(name), name);
}

int64_t integer(const Napi::Object& object, const char* name) {
  return integer_argument(object.Get(name), name);
}

// At least `least`.
int64_t integer(const Napi::Object& object, const char* name, int64_t least) {
  int64_t number = integer(object, name);
  if (number >= least) return number;
  throw coded_error(object.Env(), "ERR_INVALID_ARGUMENT",
                    std::string(name) + " must be at least " + std::to_string(least));
}

bool has(const Napi::Object& object, const char* name) { return !object.Get(name).IsUndefined(); }

// The elements, or null where there are none.
template <typename Number>
const Number* data_or_null(const std::vector<Number>& numbers) {
  return numbers.empty() ? nullptr : numbers.data();
}

Napi::Error misfit(const Napi::Object& object, const std::string& message) {
  return coded_error(object.Env(), "ERR_INVALID_ARGUMENT", message);
}

}  // namespace

PipelineOptions::PipelineOptions(const Napi::Object& options) {
  view_.family = strings_.add(text(options, "family"));
  Napi::Object networks = object_argument(options.Get("networks"), "networks");
  for (const auto& [name, role] : roles)
    networks_.push_back(read_network(object_argument(networks.Get(name), name), role));
  view_.networks = networks_.data();
  view_.network_count = networks_.size();
  if (has(options, "compiledDenoiser")) {
    view_.compiled_denoiser =
        read_compiled_denoiser(object_argument(options.Get("compiledDenoiser"), "compiledDenoiser"));
  }
  view_.device = strings_.add(text(options, "device"));
  view_.dtype = strings_.add(text(options, "dtype"));
  view_.offload = strings_.add(text(options, "offload"));
  latent_scale_ = numbers_argument(options.Get("latentScale"), "latentScale");
  latent_mean_ = numbers_argument(options.Get("latentMean"), "latentMean");
  if (latent_scale_.size() != latent_mean_.size())
    throw misfit(options, "latentScale and latentMean must have the same length");
  view_.latent_channels = static_cast<int64_t>(latent_scale_.size());
  view_.latent_scale = latent_scale_.data();
  view_.latent_mean = latent_mean_.data();
  view_.threads = static_cast<int32_t>(integer(options, "threads"));
  view_.capture_graph = options.Get("captureGraph").ToBoolean();
  view_.max_header = integer(options, "maxHeader");
}

torchreel_network_files PipelineOptions::read_network(const Napi::Object& network, const char* role) {
  std::vector<const char*>& paths = weights_.emplace_back();
  for (std::string& path : strings_argument(network.Get("weights"), "weights"))
    paths.push_back(strings_.add(std::move(path)));
  return {.role = role,
          .graph = strings_.add(text(network, "graph")),
          .weights = paths.data(),
          .weight_count = paths.size()};
}

// { library: Uint8Array, operators: string or undefined, shape, texts, tokens }
torchreel_compiled_denoiser PipelineOptions::read_compiled_denoiser(const Napi::Object& compiled) {
  library_ = uint8_argument(compiled.Get("library"), "library");
  std::vector<int64_t> shape = integers_argument(compiled.Get("shape"), "shape");
  if (shape.size() != 5) throw misfit(compiled, "shape must have 5 sizes");
  return {.library = library_.data(),
          .library_size = library_.size(),
          .operators = has(compiled, "operators") ? strings_.add(text(compiled, "operators")) : nullptr,
          .shape = {shape[0], shape[1], shape[2], shape[3], shape[4]},
          .texts = integer(compiled, "texts"),
          .tokens = integer(compiled, "tokens")};
}

Text::Text(const Napi::Object& text, int64_t prompts) {
  size_t count, row;  // numbers of all prompts, and of a token of all prompts
  if (has(text, "embeddings")) {
    embeddings_ = float32_argument(text.Get("embeddings"), "embeddings");
    view_.embeddings = data_or_null(embeddings_);
    view_.embedding_size = integer(text, "size", 1);
    count = embeddings_.size();
    row = static_cast<size_t>(prompts * view_.embedding_size);
  } else {
    tokens_ = int32_argument(text.Get("tokens"), "tokens");
    view_.tokens = data_or_null(tokens_);
    view_.clip_skip = integer(text, "clipSkip", 0);
    count = tokens_.size();
    row = static_cast<size_t>(prompts);
  }
  if (count == 0 || row == 0 || count % row != 0)
    throw misfit(text, std::to_string(count) + " tokens or embeddings do not fit " + std::to_string(prompts) +
                           " prompts");
  view_.tokens_per_prompt = static_cast<int64_t>(count / row);
}

Request::Request(const Napi::Object& request) {
  view_.videos = integer(request, "videos", 1);
  auto read_text = [&](const char* name) {
    return texts_.emplace_back(object_argument(request.Get(name), name), view_.videos).view();
  };
  view_.prompts = read_text("prompts");
  if (has(request, "negativePrompts")) view_.negative_prompts = read_text("negativePrompts");
  view_.frames = integer(request, "frames", 1);
  view_.latent_frames = integer(request, "latentFrames", 1);
  view_.latent_height = integer(request, "latentHeight", 1);
  view_.latent_width = integer(request, "latentWidth", 1);
  if (has(request, "latents")) latents_ = float32_argument(request.Get("latents"), "latents");
  view_.latents = data_or_null(latents_);
  if (has(request, "video")) read_video(object_argument(request.Get("video"), "video"));
  program_ = float64_argument(request.Get("program"), "program");
  view_.program = program_.data();
  view_.program_length = program_.size();
  guidance_ = float64_argument(request.Get("guidance"), "guidance");
  view_.guidance = guidance_.data();
  view_.guidance_length = guidance_.size();
  for (int64_t seed : integers_argument(request.Get("seeds"), "seeds"))
    seeds_.push_back(static_cast<uint64_t>(seed));
  view_.seeds = seeds_.data();
  view_.seed_count = seeds_.size();
  if (has(request, "freeU")) {
    freeu_ = float64_argument(request.Get("freeU"), "freeU");
    if (freeu_.size() != 4) throw misfit(request, "freeU must have 4 numbers");
  }
  view_.freeu = data_or_null(freeu_);
  view_.window = integer(request, "window", 0);
  view_.window_overlap = integer(request, "windowOverlap", 0);
  view_.feature_cache = integer(request, "featureCache");
  view_.latents_every = integer(request, "latentsEvery");
  view_.tile = integer(request, "tile");
  view_.tile_overlap = integer(request, "tileOverlap");
  view_.allow_non_finite = request.Get("allowNonFinite").ToBoolean();
}

// { data: Uint8Array, height, width }
void Request::read_video(const Napi::Object& video) {
  video_ = uint8_argument(video.Get("data"), "video");
  view_.video = video_.data();
  view_.video_height = integer(video, "height", view_.latent_height);
  view_.video_width = integer(video, "width", view_.latent_width);
  if (video_.size() != static_cast<size_t>(view_.frames * view_.video_height * view_.video_width * 3))
    throw misfit(video, "video must have frames · height · width · 3 bytes");
}

AdaptationRequest::AdaptationRequest(const Napi::Object& adaptation) {
  auto add = [&](const Napi::Object& object, const char* name) { return strings_.add(text(object, name)); };
  for (const Napi::Object& update : objects_argument(adaptation.Get("updates"), "updates")) {
    updates_.push_back({.weight = add(update, "weight"),
                        .file = add(update, "file"),
                        .up = add(update, "up"),
                        .down = add(update, "down"),
                        .alpha = has(update, "alpha") ? add(update, "alpha") : nullptr,
                        .scale = number_argument(update.Get("scale"), "scale")});
  }
  for (const Napi::Object& rows : objects_argument(adaptation.Get("rows"), "rows"))
    rows_.push_back({add(rows, "weight"), add(rows, "file"), add(rows, "tensor")});
  view_ = {updates_.data(), updates_.size(), rows_.data(), rows_.size()};
}
