#include "studio.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "files/safetensors.h"

namespace studio {
namespace {

// Files of one network.
struct Files {
  std::string graph, weights;
  const char* weights_pointer = nullptr;
  std::vector<std::string> float32;  // weights that stay float32
  std::vector<const char*> float32_pointers;
};

std::map<std::pair<std::string, size_t>, Files>& files() {
  static auto* const all = new std::map<std::pair<std::string, size_t>, Files>;
  return *all;
}

// Adapters of the first family, and those that are made for the second.
std::string& adapters() {
  static auto* const folder = new std::string;
  return *folder;
}

const torchreel_core& core() { return *torchreel_core_table(); }

// Numbers of any kind, the same each time.
std::vector<float> numbers(int64_t count) {
  std::vector<float> all(static_cast<size_t>(count));
  for (size_t i = 0; i < all.size(); ++i) all[i] = std::sin(static_cast<float>(i) * 1.7f);
  return all;
}

struct Listening {
  const Job* job;
  Result* result;
  bool stopped = false;
};

torchreel_listener listener_of(Listening& listening) {
  return {
      .context = &listening,
      .cancelled = [](void* context) { return static_cast<int>(static_cast<Listening*>(context)->stopped); },
      .progress =
          [](void* context, int stage, int64_t step, int64_t) {
            auto& listening = *static_cast<Listening*>(context);
            if (listening.job->at && listening.job->at(stage, step)) listening.stopped = true;
          },
      .latents =
          [](void* context, int64_t step, int64_t steps, const float* data, const int64_t* shape) {
            int64_t count = 1;
            for (int i = 0; i < 5; ++i) count *= shape[i];
            Result& result = *static_cast<Listening*>(context)->result;
            std::vector<float>& to = step == steps ? result.latents : result.previews.emplace_back();
            to.assign(data, data + count);
          },
      .frames =
          [](void* context, int64_t, int64_t count, int64_t height, int64_t width, const uint8_t* data) {
            std::vector<uint8_t>& frames = static_cast<Listening*>(context)->result->frames;
            frames.insert(frames.end(), data, data + count * height * width * 3);
          },
      .warning =
          [](void* context, const char* message) {
            static_cast<Listening*>(context)->result->warnings.emplace_back(message);
          },
      .threads = nullptr,
  };
}

// For this process.
struct Folder {
  Folder()
      : path(std::filesystem::temp_directory_path() / ("torchreel-device-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path path;
};

const std::filesystem::path& made_files() {
  static const Folder folder;
  return folder.path;
}

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

// float32. Tensors whose bytes are a multiple of 64 come first, so that all but those few after them are
// aligned.
void write(const std::string& to, Tensors tensors) {
  std::ranges::stable_partition(tensors, [](const auto& named) { return named.second.nbytes() % 64 == 0; });
  std::ostringstream header;
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header << (offset ? "," : "{") << '"' << name << R"(":{"dtype":"F32","shape":[)";
    for (int64_t i = 0; i < tensor.dim(); ++i) header << (i ? "," : "") << tensor.size(i);
    header << R"(],"data_offsets":[)" << offset << ',' << offset + tensor.nbytes() << "]}";
    offset += tensor.nbytes();
  }
  header << '}';
  std::string text = header.str();
  text.append((64 - (8 + text.size()) % 64) % 64, ' ');
  uint64_t size = text.size();
  std::ofstream out(to, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), sizeof size);
  out << text;
  for (const auto& [name, tensor] : tensors)
    out.write(static_cast<const char*>(tensor.const_data_ptr()),
              static_cast<std::streamsize>(tensor.nbytes()));
  if (!out) throw std::runtime_error("no room for copies of the checkpoint");
}

Tensors read(const std::string& path) {
  auto file = torchreel::SafetensorsFile::open(path);
  Tensors tensors;
  for (const auto& [name, entry] : file->entries())
    tensors.emplace_back(name, torchreel::mapped_tensor(file, name));
  return tensors;
}

// Those that Wan's graphs list in their manifest.
bool stays_float32(const std::string& weight) {
  return std::ranges::any_of(std::array{"time_embedder", "scale_shift_table", "norm2"},
                             [&](const char* part) { return weight.find(part) != std::string::npos; });
}

}  // namespace

const Model& model(const std::string& family) {
  static const auto* const models = new std::map<std::string, Model>{
      {"modelscope",
       {"modelscope", "tiny", "tiny", {"text_encoder", "unet", "vae"}, 4, 4, 1, 77, 77, 32, 1000}},
      {"wan", {"wan", "wan-tiny", "wan", {"text_encoder", "transformer", "vae"}, 16, 8, 4, 512, 6, 32, 171}},
  };
  return models->at(family);
}

std::string device(int number) {
  const char* chosen = std::getenv("TORCHREEL_TEST_DEVICE");
  const std::string kind = chosen ? chosen : "standin";
  int count = c10::impl::VirtualGuardImpl(at::Device(kind).type()).deviceCount();
  return kind + ":" + std::to_string(std::min(number, count - 1));
}

bool is_standin() { return at::Device(device(0)).type() == at::kPrivateUse1; }

int64_t allocated(int number) {
  at::Device of(device(number));
  constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return at::getDeviceAllocator(of.type())->getDeviceStats(of.index()).allocated_bytes[all].current;
}

void use_fixtures(const std::string& folder) {
  adapters() = folder + "/adapters/";
  for (const char* family : {"modelscope", "wan"}) {
    const Model& model = studio::model(family);
    for (size_t network = 0; network < 3; ++network) {
      const std::string& name = model.networks[network];
      Files& of = files()[{family, network}];
      of.graph = folder + "/../../models/graphs/" + model.graphs + "/" + name + ".pt";
      of.weights = made_files() / (model.name + "-" + name + ".safetensors");
      of.weights_pointer = of.weights.c_str();
      Tensors weights = read(folder + "/" + model.checkpoint + "/checkpoint/" + name + "/" +
                             (network == 0 ? "model" : "diffusion_pytorch_model") + ".safetensors");
      if (name == "transformer") {
        for (const auto& [weight, tensor] : weights)
          if (stays_float32(weight)) of.float32.push_back(weight);
      }
      for (const std::string& weight : of.float32) of.float32_pointers.push_back(weight.c_str());
      write(of.weights, std::move(weights));
    }
  }
  constexpr int64_t channels = 24, rank = 4;  // of Wan's first projection
  std::vector<float> all = numbers(2 * channels * rank);
  at::Tensor both = at::from_blob(all.data(), {2, channels * rank}, at::kFloat);
  write(made_files() / "adapter.safetensors",
        {{"up", both[0].view({channels, rank})}, {"down", both[1].view({rank, channels})}});
}

torchreel_network_files network_files(const std::string& family, size_t network) {
  constexpr const char* roles[] = {"text_encoder", "denoiser", "vae"};
  const Files& of = files().at({family, network});
  return {roles[network],
          of.graph.c_str(),
          &of.weights_pointer,
          1,
          of.float32_pointers.data(),
          of.float32_pointers.size()};
}

Pipeline::Pipeline(const Options& given) : model_(model(given.family)) {
  const std::vector<double> latent_scale(model_.channels, given.latent_scale),
      latent_mean(model_.channels, 0);
  const torchreel_network_files networks[] = {network_files(given.family, 0), network_files(given.family, 1),
                                              network_files(given.family, 2)};
  torchreel_pipeline_options options{};
  options.family = given.family.c_str();
  options.networks = networks;
  options.network_count = 3;
  options.device = given.device.c_str();
  options.dtype = given.dtype.c_str();
  options.offload = given.offload.c_str();
  options.latent_channels = model_.channels;
  options.latent_scale = latent_scale.data();
  options.latent_mean = latent_mean.data();
  options.threads = 1;
  options.capture_graph = given.records;
  const uint8_t library[] = {0};
  if (given.compiled)
    options.compiled_denoiser = {library, 1, nullptr, {1, model_.channels, 2, 8, 8}, 1, model_.tokens};
  options.max_header = 1 << 20;
  options.cancelled = [](void*) { return 0; };
  torchreel_error error{};
  if (core().pipeline_open(&options, &pipeline_, &error)) {
    code_ = error.code;
    message_ = error.message;
  }
}

Pipeline::~Pipeline() {
  if (pipeline_) core().pipeline_close(pipeline_);
}

Result Pipeline::run(const Job& job) {
  const int64_t tokens = model_.tokens, scale = model_.pixels;
  const int64_t frames = model_.frames_of_latent * (job.frames - 1) + 1;
  std::vector<int32_t> prompts, negative_prompts(static_cast<size_t>(job.videos * tokens), 0);
  for (int64_t i = 0; i < job.videos * tokens; ++i) {
    int64_t word = job.word + i / tokens;
    prompts.push_back(static_cast<int32_t>(i % 2 ? word / model_.words : word % model_.words));
  }
  const std::vector<int64_t> lengths(static_cast<size_t>(job.videos), model_.real_tokens);
  std::vector<float> embeddings = numbers(job.videos * tokens * model_.embedding_size);
  std::vector<double> program = job.program.empty() ? euler_steps(3) : job.program;
  std::vector<double> guidance = job.guidance.empty() ? std::vector<double>(3, 3.0) : job.guidance;
  std::vector<float> latents = numbers(job.videos * model_.channels * job.frames * job.height * job.width);
  std::vector<uint8_t> video(static_cast<size_t>(frames * job.height * job.width * scale * scale * 3));
  for (size_t i = 0; i < video.size(); ++i) video[i] = static_cast<uint8_t>(i * 7 % 251);

  torchreel_request request{};
  request.videos = job.videos;
  request.prompts = {job.embedded ? nullptr : prompts.data(),
                     tokens,
                     lengths.data(),
                     job.clip_skip,
                     job.embedded ? embeddings.data() : nullptr,
                     model_.embedding_size};
  if (job.guided) request.negative_prompts = {negative_prompts.data(), tokens, lengths.data(), 0, nullptr, 0};
  request.frames = frames;
  request.latent_frames = job.frames;
  request.latent_height = job.height;
  request.latent_width = job.width;
  request.latents = job.given_latents ? latents.data() : nullptr;
  request.video = job.from_video ? video.data() : nullptr;
  request.video_height = job.height * scale;
  request.video_width = job.width * scale;
  request.program = program.data();
  request.program_length = program.size();
  request.guidance = guidance.data();
  request.guidance_length = guidance.size();
  request.seeds = job.seeds.data();
  request.seed_count = job.seeds.size();
  request.freeu = job.freeu.empty() ? nullptr : job.freeu.data();
  request.window = job.window;
  request.window_overlap = job.window_overlap;
  request.feature_cache = job.feature_cache;
  request.latents_every = job.latents_every;
  request.allow_non_finite = job.allow_non_finite;
  request.tile = job.tile;
  request.tile_overlap = job.tile_overlap;

  Result result;
  Listening listening{&job, &result};
  torchreel_listener listener = listener_of(listening);
  torchreel_error error{};
  if (core().pipeline_generate(pipeline_, &request, &listener, &error)) {
    result.code = error.code;
    result.message = error.message;
  }
  return result;
}

std::string Pipeline::adapt(double strength) {
  const std::string of_text_encoder = adapters() + "peft.safetensors",
                    words = adapters() + "words.safetensors",
                    of_transformer = made_files() / "adapter.safetensors";
  const std::string layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_";
  const torchreel_rows rows{"text_model.embeddings.token_embedding.weight", words.c_str(), "<torch-reel>"};
  const std::string up = layer + "B.weight", down = layer + "A.weight";
  const torchreel_update text_encoder{"text_model.encoder.layers.0.self_attn.q_proj.weight",
                                      of_text_encoder.c_str(),
                                      up.c_str(),
                                      down.c_str(),
                                      nullptr,
                                      strength};
  const bool wan = model_.name == "wan";
  const torchreel_update denoiser = wan ? torchreel_update{"blocks.0.attn1.to_q.weight",
                                                           of_transformer.c_str(),
                                                           "up",
                                                           "down",
                                                           nullptr,
                                                           strength}
                                        : torchreel_update{"conv_in.weight",
                                                           of_text_encoder.c_str(),
                                                           "unet.conv_in.lora_B.weight",
                                                           "unet.conv_in.lora_A.weight",
                                                           nullptr,
                                                           strength};
  const bool none = strength == 0, no_text = none || wan;
  torchreel_adaptation text_adaptation{no_text ? nullptr : &text_encoder, no_text ? 0u : 1u,
                                       no_text ? nullptr : &rows, no_text ? 0u : 1u};
  torchreel_adaptation denoiser_adaptation{none ? nullptr : &denoiser, none ? 0u : 1u, nullptr, 0};
  torchreel_error error{};
  return core().pipeline_adapt(pipeline_, &text_adaptation, &denoiser_adaptation, &error) ? error.code : "";
}

torchreel_memory Pipeline::memory() const {
  torchreel_memory memory{};
  torchreel_error error{};
  core().pipeline_memory(pipeline_, &memory, &error);
  return memory;
}

std::vector<double> euler_steps(int64_t steps) {
  std::vector<double> program;
  for (int64_t step = 0; step < steps; ++step) {
    double timestep = 900.0 - 800.0 * static_cast<double>(step) / static_cast<double>(steps);
    for (double number : {0.0, timestep, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 1.0, -0.1}) program.push_back(number);
  }
  return program;
}

std::vector<double> every_instruction() {
  return {0, 900, 0.9,                             // output <- network(0.9 * sample)
          1, 2,   2,   0,   1,   1, -0.4,          // clean <- sample - 0.4 * output
          4, 2,   0.9, 1.5,                        // thresholded
          1, 3,   0,                               // an empty sum
          2, 4,                                    // noise
          1, 0,   3,   2,   0.9, 3, 1,    4, 0.2,  // sample <- 0.9 * clean + 0.2 * noise
          0, 500, 1,                               //
          1, 2,   2,   0,   1,   1, -0.2,          //
          3, 2,   1,                               // clamped
          2, 4,                                    //
          1, 0,   3,   2,   0.9, 1, 0.05, 4, 0.1,  //
          0, 100, 1,                               //
          1, 0,   2,   0,   1,   1, -0.1};
}

}  // namespace studio
