#include "pipeline_handle.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adaptation.h"
#include "arguments.h"
#include "core_library.h"
#include "process/fault_order.h"

namespace {

struct NetworkFiles {
  NetworkFiles(const Napi::Object& options, const char* component)
      : graph(string_argument(field(options, component).Get("graph"), "graph")),
        weights(strings_argument(field(options, component).Get("weights"), "weights")) {
    for (const std::string& path : weights) pointers.push_back(path.c_str());
  }

  torchreel_network_files view() const { return {graph.c_str(), pointers.data(), pointers.size()}; }

  std::string graph;
  std::vector<std::string> weights;
  std::vector<const char*> pointers;

 private:
  static Napi::Object field(const Napi::Object& options, const char* name) {
    return object_argument(options.Get(name), name);
  }
};

// { library: Uint8Array, operators: string or undefined, shape, texts, tokens }
struct CompiledDenoiser {
  explicit CompiledDenoiser(const Napi::Object& compiled)
      : library(uint8_argument(compiled.Get("library"), "library")),
        shape(integers_argument(compiled.Get("shape"), "shape")),
        texts(integer_argument(compiled.Get("texts"), "texts")),
        tokens(integer_argument(compiled.Get("tokens"), "tokens")) {
    if (Napi::Value given = compiled.Get("operators"); !given.IsUndefined())
      operators = string_argument(given, "operators");
    if (shape.size() != 5) throw coded_error(compiled.Env(), "ERR_INVALID_ARGUMENT", "shape has 5 sizes");
  }

  torchreel_compiled_denoiser view() const {
    return {.library = library.data(),
            .library_size = library.size(),
            .operators = operators ? operators->c_str() : nullptr,
            .shape = {shape[0], shape[1], shape[2], shape[3], shape[4]},
            .texts = texts,
            .tokens = tokens};
  }

  std::vector<uint8_t> library;
  std::optional<std::string> operators;
  std::vector<int64_t> shape;
  int64_t texts, tokens;
};

struct PipelineOptions {
  explicit PipelineOptions(const Napi::Object& options)
      : text_encoder(options, "textEncoder"),
        unet(options, "unet"),
        vae(options, "vae"),
        device(string_argument(options.Get("device"), "device")),
        dtype(string_argument(options.Get("dtype"), "dtype")),
        offload(string_argument(options.Get("offload"), "offload")),
        scaling_factor(number_argument(options.Get("scalingFactor"), "scalingFactor")),
        latent_channels(integer_argument(options.Get("latentChannels"), "latentChannels")),
        threads(static_cast<int32_t>(integer_argument(options.Get("threads"), "threads"))),
        capture_graph(options.Get("captureGraph").ToBoolean()),
        max_header(integer_argument(options.Get("maxHeader"), "maxHeader")) {
    if (Napi::Value given = options.Get("compiledDenoiser"); !given.IsUndefined())
      compiled_denoiser.emplace(object_argument(given, "compiledDenoiser"));
  }

  torchreel_pipeline_options view(Job& job) const {
    return {
        .text_encoder = text_encoder.view(),
        .unet = unet.view(),
        .vae = vae.view(),
        .compiled_denoiser = compiled_denoiser ? compiled_denoiser->view() : torchreel_compiled_denoiser{},
        .device = device.c_str(),
        .dtype = dtype.c_str(),
        .offload = offload.c_str(),
        .scaling_factor = scaling_factor,
        .latent_channels = latent_channels,
        .threads = threads,
        .capture_graph = capture_graph,
        .max_header = max_header,
        .context = &job,
        .cancelled = [](void* context) -> int { return static_cast<Job*>(context)->cancelled; },
    };
  }

  NetworkFiles text_encoder, unet, vae;
  std::optional<CompiledDenoiser> compiled_denoiser;
  std::string device, dtype, offload;
  double scaling_factor;
  int64_t latent_channels;
  int32_t threads;
  bool capture_graph;
  int64_t max_header;
};

// Prompts: { tokens: Int32Array, clipSkip } or { embeddings: Float32Array, size: D }, of `prompts` rows.
struct Text {
  Text() = default;
  Text(const Napi::Object& text, int64_t prompts) {
    if (Napi::Value given = text.Get("embeddings"); !given.IsUndefined()) {
      embeddings = float32_argument(given, "embeddings");
      embedding_size = integer_argument(text.Get("size"), "size");
    } else {
      tokens = int32_argument(text.Get("tokens"), "tokens");
      clip_skip = integer_argument(text.Get("clipSkip"), "clipSkip");
    }
    int64_t row = prompts * (embeddings.empty() ? 1 : embedding_size);
    int64_t numbers = static_cast<int64_t>(embeddings.empty() ? tokens.size() : embeddings.size());
    if (clip_skip < 0 || row <= 0 || numbers == 0 || numbers % row != 0) {
      throw coded_error(text.Env(), "ERR_INVALID_ARGUMENT", "the text's sizes do not fit each other");
    }
    tokens_per_prompt = numbers / row;
  }

  torchreel_text view() const {
    return {tokens.empty() ? nullptr : tokens.data(), tokens_per_prompt, clip_skip,
            embeddings.empty() ? nullptr : embeddings.data(), embedding_size};
  }

  std::vector<int32_t> tokens;
  std::vector<float> embeddings;
  int64_t tokens_per_prompt = 0, clip_skip = 0, embedding_size = 0;
};

struct Request {
  explicit Request(const Napi::Object& request)
      : videos(integer_argument(request.Get("videos"), "videos")),
        prompts(object_argument(request.Get("prompts"), "prompts"), videos),
        frames(integer_argument(request.Get("frames"), "frames")),
        latent_height(integer_argument(request.Get("latentHeight"), "latentHeight")),
        latent_width(integer_argument(request.Get("latentWidth"), "latentWidth")),
        program(float64_argument(request.Get("program"), "program")),
        guidance(float64_argument(request.Get("guidance"), "guidance")),
        window(integer_argument(request.Get("window"), "window")),
        window_overlap(integer_argument(request.Get("windowOverlap"), "windowOverlap")),
        feature_cache(integer_argument(request.Get("featureCache"), "featureCache")),
        latents_every(integer_argument(request.Get("latentsEvery"), "latentsEvery")),
        decode_chunk(integer_argument(request.Get("decodeChunk"), "decodeChunk")),
        tile(integer_argument(request.Get("tile"), "tile")),
        tile_overlap(integer_argument(request.Get("tileOverlap"), "tileOverlap")),
        allow_non_finite(request.Get("allowNonFinite").ToBoolean()) {
    if (Napi::Value negative = request.Get("negativePrompts"); !negative.IsUndefined()) {
      negative_prompts = Text(object_argument(negative, "negativePrompts"), videos);
    }
    if (Napi::Value start = request.Get("latents"); !start.IsUndefined())
      latents = float32_argument(start, "latents");
    if (Napi::Value factors = request.Get("freeU"); !factors.IsUndefined())
      freeu = float64_argument(factors, "freeU");
    if (Napi::Value start = request.Get("video"); !start.IsUndefined()) {
      Napi::Object given = object_argument(start, "video");
      video = uint8_argument(given.Get("data"), "video");
      video_height = integer_argument(given.Get("height"), "height");
      video_width = integer_argument(given.Get("width"), "width");
      if (video.size() != static_cast<size_t>(frames * video_height * video_width * 3) ||
          video_height < latent_height || video_width < latent_width) {
        throw coded_error(request.Env(), "ERR_INVALID_ARGUMENT", "the video's sizes do not fit each other");
      }
    }
    for (int64_t seed : integers_argument(request.Get("seeds"), "seeds"))
      seeds.push_back(static_cast<uint64_t>(seed));
    if (videos < 1 || frames < 1 || latent_height < 1 || latent_width < 1 || window < 0 ||
        window_overlap < 0 || (!freeu.empty() && freeu.size() != 4)) {
      throw coded_error(request.Env(), "ERR_INVALID_ARGUMENT", "the request's sizes must be positive");
    }
  }

  torchreel_request view() const {
    return {
        .videos = videos,
        .prompts = prompts.view(),
        .negative_prompts = negative_prompts.view(),
        .frames = frames,
        .latent_height = latent_height,
        .latent_width = latent_width,
        .latents = latents.empty() ? nullptr : latents.data(),
        .video = video.empty() ? nullptr : video.data(),
        .video_height = video_height,
        .video_width = video_width,
        .program = program.data(),
        .program_length = program.size(),
        .guidance = guidance.data(),
        .guidance_length = guidance.size(),
        .seeds = seeds.data(),
        .seed_count = seeds.size(),
        .freeu = freeu.empty() ? nullptr : freeu.data(),
        .window = window,
        .window_overlap = window_overlap,
        .feature_cache = feature_cache,
        .latents_every = latents_every,
        .decode_chunk = decode_chunk,
        .tile = tile,
        .tile_overlap = tile_overlap,
        .allow_non_finite = allow_non_finite,
    };
  }

  int64_t videos;
  Text prompts, negative_prompts;
  int64_t frames, latent_height, latent_width;
  std::vector<float> latents;
  std::vector<uint8_t> video;
  int64_t video_height = 0, video_width = 0;
  std::vector<double> program, guidance, freeu;
  std::vector<uint64_t> seeds;
  int64_t window, window_overlap, feature_cache, latents_every, decode_chunk, tile, tile_overlap;
  bool allow_non_finite;
};

// Numbers with a shape, as { data: Float32Array, shape }.
struct Numbers {
  Numbers(const float* data, std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    values.assign(data, data + count);
  }

  Napi::Object to_object(Napi::Env env) const {
    auto array = Napi::Float32Array::New(env, values.size());
    std::copy(values.begin(), values.end(), array.Data());
    auto sizes = Napi::Array::New(env, shape.size());
    for (uint32_t i = 0; i < shape.size(); ++i) sizes.Set(i, static_cast<double>(shape[i]));
    Napi::Object object = Napi::Object::New(env);
    object.Set("data", array);
    object.Set("shape", sizes);
    return object;
  }

  std::vector<int64_t> shape;
  std::vector<float> values;
};

// What the core's listener calls on the job thread, made into reports.
struct Reporter {
  JobThread& thread;
  Job& job;

  torchreel_listener view() {
    return {.context = this,
            .cancelled = cancelled,
            .progress = progress,
            .latents = latents,
            .frames = frames,
            .warning = warning};
  }

  static Reporter& of(void* context) { return *static_cast<Reporter*>(context); }

  static int cancelled(void* context) { return of(context).job.cancelled; }

  // Runs `make` now, which copies what the core lends, and what that gives on the JavaScript thread.
  template <typename Make>
  static void report(void* context, Make&& make) noexcept {
    of(context).thread.report(of(context).job, make);
  }

  static void progress(void* context, int stage, int64_t step, int64_t steps) {
    static constexpr const char* names[] = {"encode", "denoise", "decode"};
    report(context, [=] {
      return [=](Napi::Env env) {
        Napi::Object event = Napi::Object::New(env);
        event.Set("type", "progress");
        event.Set("stage", names[stage]);
        event.Set("step", static_cast<double>(step));
        event.Set("steps", static_cast<double>(steps));
        return event;
      };
    });
  }

  static void latents(void* context, int64_t step, int64_t steps, const float* data, const int64_t shape[5]) {
    report(context, [=] {
      return [=, numbers = Numbers(data, {shape, shape + 5})](Napi::Env env) {
        Napi::Object event = numbers.to_object(env);
        event.Set("type", "latents");
        event.Set("step", static_cast<double>(step));
        event.Set("steps", static_cast<double>(steps));
        return event;
      };
    });
  }

  static void embeddings(void* context, const float* data, const int64_t shape[3]) {
    report(context, [=] {
      return [=, numbers = Numbers(data, {shape, shape + 3})](Napi::Env env) {
        Napi::Object event = numbers.to_object(env);
        event.Set("type", "embeddings");
        return event;
      };
    });
  }

  static void frames(void* context, int64_t first, int64_t count, int64_t height, int64_t width,
                     const uint8_t* data) {
    report(context, [=] {
      std::vector<uint8_t> pixels(data, data + count * height * width * 3);
      return [=, pixels = std::move(pixels)](Napi::Env env) {
        Napi::Object event = Napi::Object::New(env);
        event.Set("type", "frames");
        event.Set("first", static_cast<double>(first));
        event.Set("count", static_cast<double>(count));
        event.Set("height", static_cast<double>(height));
        event.Set("width", static_cast<double>(width));
        event.Set("data", Napi::Buffer<uint8_t>::Copy(env, pixels.data(), pixels.size()));
        return event;
      };
    });
  }

  static void warning(void* context, const char* message) {
    report(context, [=] {
      return [text = std::string(message)](Napi::Env env) {
        Napi::Object event = Napi::Object::New(env);
        event.Set("type", "warning");
        event.Set("message", text);
        return event;
      };
    });
  }
};

}  // namespace

// Another copy of the addon in the process has another tag: its handles are not ours.
const napi_type_tag PipelineHandle::type_tag{0x1f3bd9e2a7c84d51, reinterpret_cast<uintptr_t>(&type_tag)};

PipelineHandle::PipelineHandle(Napi::Env env)
    : env_(env),
      core_(opened_core()),
      thread_(
          env,
          [this] {
            std::unique_lock lock(mutex_);
            torchreel_pipeline* closing = std::exchange(pipeline_, nullptr);
            lock.unlock();
            if (closing) core_.pipeline_close(closing);
          },
          [this] { hold(0); }) {}

PipelineHandle::~PipelineHandle() { hold(0); }

void PipelineHandle::hold(int64_t bytes) {
  Napi::MemoryManagement::AdjustExternalMemory(env_, bytes - std::exchange(held_, bytes));
}

Napi::Promise PipelineHandle::open(Napi::Env env, uint32_t id, const Napi::Object& options) {
  auto job = std::make_unique<Job>(env);
  job->succeeded = [this](Napi::Env) {
    torchreel_memory memory{};
    torchreel_error ignored{};
    if (core_.pipeline_memory(pipeline_, &memory, &ignored)) return;
    int64_t bytes = 0;
    for (const auto& network : {memory.text_encoder, memory.unet, memory.vae})
      bytes += network.mapped + network.copied;
    hold(bytes);
  };
  job->work = [this, options = PipelineOptions(options)](Job& running, torchreel_error* error) {
    torchreel_pipeline_options view = options.view(running);
    torchreel_pipeline* opened = nullptr;
    int failed = core_.pipeline_open(&view, &opened, error);
    std::lock_guard lock(mutex_);
    pipeline_ = opened;
    return failed;
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Promise PipelineHandle::generate(Napi::Env env, uint32_t id, const Napi::Object& request,
                                       const Napi::Function& listener) {
  torchreel::faults::arm();
  auto job = std::make_unique<Job>(env);
  job->listener = Napi::Persistent(listener);
  job->work = [this, request = Request(request)](Job& running, torchreel_error* error) {
    if (!is_open(error)) return 1;
    Reporter reporter{thread_, running};
    torchreel_listener listener = reporter.view();
    torchreel_request view = request.view();
    return core_.pipeline_generate(pipeline_, &view, &listener, error);
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Promise PipelineHandle::encode(Napi::Env env, uint32_t id, int64_t prompts, const Napi::Object& text,
                                     const Napi::Function& listener) {
  auto job = std::make_unique<Job>(env);
  job->listener = Napi::Persistent(listener);
  job->work = [this, prompts, text = Text(text, prompts)](Job& running, torchreel_error* error) {
    if (!is_open(error)) return 1;
    Reporter reporter{thread_, running};
    torchreel_text view = text.view();
    return core_.pipeline_encode(pipeline_, prompts, &view, &reporter, Reporter::embeddings, error);
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Value PipelineHandle::memory(Napi::Env env) {
  torchreel_memory memory{};
  torchreel_error error{};
  {
    std::lock_guard lock(mutex_);
    if (!is_open(&error) || core_.pipeline_memory(pipeline_, &memory, &error)) throw core_error(env, error);
  }
  auto network = [&](const torchreel_network_memory& bytes) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("mapped", static_cast<double>(bytes.mapped));
    object.Set("copied", static_cast<double>(bytes.copied));
    object.Set("peakCopied", static_cast<double>(bytes.peak_copied));
    object.Set("pinned", static_cast<double>(bytes.pinned));
    object.Set("placed", bytes.placed != 0);
    return object;
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("textEncoder", network(memory.text_encoder));
  object.Set("unet", network(memory.unet));
  object.Set("vae", network(memory.vae));
  object.Set("allocated", static_cast<double>(memory.allocated));
  object.Set("reserved", static_cast<double>(memory.reserved));
  int64_t external = Napi::MemoryManagement::AdjustExternalMemory(env, 0);
  object.Set("external", static_cast<double>(external));
  return object;
}

Napi::Promise PipelineHandle::adapt(Napi::Env env, uint32_t id, const Napi::Object& text_encoder,
                                    const Napi::Object& unet) {
  auto job = std::make_unique<Job>(env);
  job->work = [this, of_text = Adaptation(text_encoder), of_unet = Adaptation(unet)](Job&,
                                                                                     torchreel_error* error) {
    if (!is_open(error)) return 1;
    return of_text.view([&](const torchreel_adaptation& text_encoder) {
      return of_unet.view([&](const torchreel_adaptation& unet) {
        return core_.pipeline_adapt(pipeline_, &text_encoder, &unet, error);
      });
    });
  };
  return thread_.post(env, id, std::move(job));
}

bool PipelineHandle::is_open(torchreel_error* error) const {
  if (!pipeline_) *error = {"ERR_INTERNAL", "the pipeline is not open", "", 0};
  return pipeline_ != nullptr;
}
