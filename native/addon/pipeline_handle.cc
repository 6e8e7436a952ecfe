#include "pipeline_handle.h"

#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "core_library.h"

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

struct PipelineOptions {
  explicit PipelineOptions(const Napi::Object& options)
      : text_encoder(options, "textEncoder"),
        unet(options, "unet"),
        vae(options, "vae"),
        device(string_argument(options.Get("device"), "device")),
        dtype(string_argument(options.Get("dtype"), "dtype")),
        offload(string_argument(options.Get("offload"), "offload")),
        scaling_factor(number_argument(options.Get("scalingFactor"), "scalingFactor")),
        latent_channels(integer_argument(options.Get("latentChannels"), "latentChannels")) {}

  torchreel_pipeline_options view() const {
    return {text_encoder.view(), unet.view(),     vae.view(),     device.c_str(),
            dtype.c_str(),       offload.c_str(), scaling_factor, latent_channels};
  }

  NetworkFiles text_encoder, unet, vae;
  std::string device, dtype, offload;
  double scaling_factor;
  int64_t latent_channels;
};

struct Request {
  explicit Request(const Napi::Object& request)
      : videos(integer_argument(request.Get("videos"), "videos")),
        tokens(int32_argument(request.Get("tokens"), "tokens")),
        clip_skip(integer_argument(request.Get("clipSkip"), "clipSkip")),
        frames(integer_argument(request.Get("frames"), "frames")),
        latent_height(integer_argument(request.Get("latentHeight"), "latentHeight")),
        latent_width(integer_argument(request.Get("latentWidth"), "latentWidth")),
        program(float64_argument(request.Get("program"), "program")),
        guidance(float64_argument(request.Get("guidance"), "guidance")),
        decode_chunk(integer_argument(request.Get("decodeChunk"), "decodeChunk")),
        threads(static_cast<int32_t>(integer_argument(request.Get("threads"), "threads"))) {
    if (Napi::Value negative = request.Get("negativeTokens"); !negative.IsUndefined()) {
      negative_tokens = int32_argument(negative, "negativeTokens");
    }
    for (int64_t seed : integers_argument(request.Get("seeds"), "seeds"))
      seeds.push_back(static_cast<uint64_t>(seed));

    bool sizes = videos > 0 && frames > 0 && latent_height > 0 && latent_width > 0 && clip_skip >= 0;
    bool rows = sizes && !tokens.empty() && tokens.size() % static_cast<size_t>(videos) == 0;
    if (!rows || (negative_tokens && negative_tokens->size() != tokens.size())) {
      throw coded_error(request.Env(), "ERR_INVALID_ARGUMENT", "the request's sizes do not fit each other");
    }
  }

  torchreel_request view() const {
    return {
        .videos = videos,
        .tokens_per_prompt = static_cast<int64_t>(tokens.size()) / videos,
        .tokens = tokens.data(),
        .negative_tokens = negative_tokens ? negative_tokens->data() : nullptr,
        .clip_skip = clip_skip,
        .frames = frames,
        .latent_height = latent_height,
        .latent_width = latent_width,
        .program = program.data(),
        .program_length = program.size(),
        .guidance = guidance.data(),
        .guidance_length = guidance.size(),
        .seeds = seeds.data(),
        .seed_count = seeds.size(),
        .decode_chunk = decode_chunk,
        .threads = threads,
    };
  }

  int64_t videos;
  std::vector<int32_t> tokens;
  std::optional<std::vector<int32_t>> negative_tokens;
  int64_t clip_skip, frames, latent_height, latent_width;
  std::vector<double> program, guidance;
  std::vector<uint64_t> seeds;
  int64_t decode_chunk;
  int32_t threads;
};

// What the core's listener calls on the job thread, made into reports.
struct Reporter {
  JobThread& thread;
  Job& job;

  torchreel_listener view() {
    return {
        .context = this, .cancelled = cancelled, .progress = progress, .latents = latents, .frames = frames};
  }

  static Reporter& of(void* context) { return *static_cast<Reporter*>(context); }

  static int cancelled(void* context) { return of(context).job.cancelled; }

  static void progress(void* context, int stage, int64_t step, int64_t steps) {
    static constexpr const char* names[] = {"encode", "denoise", "decode"};
    of(context).thread.report(of(context).job, [=](Napi::Env env) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "progress");
      event.Set("stage", names[stage]);
      event.Set("step", static_cast<double>(step));
      event.Set("steps", static_cast<double>(steps));
      return event;
    });
  }

  static void latents(void* context, const float* data, const int64_t shape[5]) {
    std::vector<int64_t> sizes(shape, shape + 5);
    int64_t count = 1;
    for (int64_t size : sizes) count *= size;
    std::vector<float> numbers(data, data + count);
    of(context).thread.report(of(context).job, [=](Napi::Env env) {
      auto array = Napi::Float32Array::New(env, numbers.size());
      std::copy(numbers.begin(), numbers.end(), array.Data());
      auto dimensions = Napi::Array::New(env, sizes.size());
      for (uint32_t i = 0; i < sizes.size(); ++i) dimensions.Set(i, static_cast<double>(sizes[i]));
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "latents");
      event.Set("data", array);
      event.Set("shape", dimensions);
      return event;
    });
  }

  static void frames(void* context, int64_t first, int64_t count, int64_t height, int64_t width,
                     const uint8_t* data) {
    std::vector<uint8_t> pixels(data, data + count * height * width * 3);
    of(context).thread.report(of(context).job, [=](Napi::Env env) {
      Napi::Object event = Napi::Object::New(env);
      event.Set("type", "frames");
      event.Set("first", static_cast<double>(first));
      event.Set("count", static_cast<double>(count));
      event.Set("height", static_cast<double>(height));
      event.Set("width", static_cast<double>(width));
      event.Set("data", Napi::Buffer<uint8_t>::Copy(env, pixels.data(), pixels.size()));
      return event;
    });
  }
};

}  // namespace

const napi_type_tag PipelineHandle::type_tag{0x1f3bd9e2a7c84d51, 0x9a6e40c7d2b15f83};

PipelineHandle::PipelineHandle(Napi::Env env)
    : core_(opened_core()), thread_(env, [this] {
        if (pipeline_) core_.pipeline_close(pipeline_);
      }) {}

Napi::Promise PipelineHandle::open(Napi::Env env, uint32_t id, const Napi::Object& options) {
  auto job = std::make_unique<Job>(env);
  job->work = [this, options = PipelineOptions(options)](Job&, torchreel_error* error) {
    torchreel_pipeline_options view = options.view();
    return core_.pipeline_open(&view, &pipeline_, error);
  };
  return thread_.post(env, id, std::move(job));
}

Napi::Promise PipelineHandle::generate(Napi::Env env, uint32_t id, const Napi::Object& request,
                                       const Napi::Function& listener) {
  auto job = std::make_unique<Job>(env);
  job->listener = Napi::Persistent(listener);
  job->work = [this, request = Request(request)](Job& running, torchreel_error* error) {
    if (!pipeline_) {
      *error = {"ERR_INTERNAL", "the pipeline is not open"};
      return 1;
    }
    Reporter reporter{thread_, running};
    torchreel_listener listener = reporter.view();
    torchreel_request view = request.view();
    return core_.pipeline_generate(pipeline_, &view, &listener, error);
  };
  return thread_.post(env, id, std::move(job));
}
