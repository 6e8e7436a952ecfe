#include "studio.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "files/safetensors.h"

namespace studio {
namespace {

constexpr int64_t tokens_per_prompt = 77, embedding_size = 32, channels = 4, scale = 4;  // pixels of a latent

struct Files {
  std::string folder;
  std::vector<std::string> graphs, weights;
  std::vector<const char*> pointers;
};

Files& files() {
  static auto* const one = new Files;
  return *one;
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

// Tensors whose bytes are a multiple of 64 come first, so that all but those few after them are aligned.
void copy_aligned(const std::string& from, const std::string& to) {
  auto file = torchreel::SafetensorsFile::open(from);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, entry] : file->entries())
    tensors.emplace_back(name, torchreel::mapped_tensor(file, name));
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

}  // namespace

void use_fixtures(const std::string& folder) {
  const std::pair<const char*, const char*> networks[] = {
      {"text_encoder", "model"}, {"unet", "diffusion_pytorch_model"}, {"vae", "diffusion_pytorch_model"}};
  static Folder copies;
  files().folder = folder;
  for (const auto& [name, weights] : networks) {
    files().graphs.push_back(folder + "/../../models/graphs/tiny/" + name + ".pt");
    files().weights.push_back(copies.path / (std::string(name) + ".safetensors"));
    copy_aligned(folder + "/tiny/checkpoint/" + name + "/" + weights + ".safetensors",
                 files().weights.back());
  }
  for (const std::string& file : files().weights) files().pointers.push_back(file.c_str());
}

torchreel_network_files network_files(size_t network) {
  constexpr const char* roles[] = {"text_encoder", "denoiser", "vae"};
  torchreel_network_files named{};
  named.role = roles[network];
  named.graph = files().graphs[network].c_str();
  named.weights = &files().pointers[network];
  named.weight_count = 1;
  return named;
}

Pipeline::Pipeline(const Options& given) {
  constexpr double latent_scale[] = {0.18215, 0.18215, 0.18215, 0.18215}, latent_mean[channels] = {};
  const torchreel_network_files networks[] = {network_files(0), network_files(1), network_files(2)};
  torchreel_pipeline_options options{};
  options.family = "modelscope";
  options.networks = networks;
  options.network_count = 3;
  options.device = given.device.c_str();
  options.dtype = given.dtype.c_str();
  options.offload = given.offload.c_str();
  options.latent_channels = channels;
  options.latent_scale = latent_scale;
  options.latent_mean = latent_mean;
  options.threads = 1;
  options.capture_graph = given.records;
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
  std::vector<int32_t> prompt, negative(static_cast<size_t>(job.videos * tokens_per_prompt), 0);
  for (int64_t i = 0; i < job.videos * tokens_per_prompt; ++i)
    prompt.push_back(job.word + static_cast<int32_t>(i / tokens_per_prompt));
  std::vector<float> embeddings = numbers(job.videos * tokens_per_prompt * embedding_size);
  std::vector<double> program = job.program.empty() ? euler_steps(3) : job.program;
  std::vector<double> guidance = job.guidance.empty() ? std::vector<double>(3, 3.0) : job.guidance;
  std::vector<float> latents = numbers(job.videos * channels * job.frames * job.height * job.width);
  std::vector<uint8_t> video(static_cast<size_t>(job.frames * job.height * job.width * scale * scale * 3));
  for (size_t i = 0; i < video.size(); ++i) video[i] = static_cast<uint8_t>(i * 7 % 251);

  torchreel_request request{};
  request.videos = job.videos;
  request.prompts = {job.embedded ? nullptr : prompt.data(),     tokens_per_prompt, nullptr, job.clip_skip,
                     job.embedded ? embeddings.data() : nullptr, embedding_size};
  if (job.guided) request.negative_prompts = {negative.data(), tokens_per_prompt, nullptr, 0, nullptr, 0};
  request.frames = request.latent_frames = job.frames;
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
  std::string folder = files().folder + "/adapters/";
  std::string updates_file = folder + "peft.safetensors", rows_file = folder + "words.safetensors";
  const std::string text = "text_model.encoder.layers.0.self_attn.q_proj", denoiser = "conv_in";
  auto update = [&](const std::string& weight, const std::string& file, const std::string& a,
                    const std::string& b) {
    return torchreel_update{weight.c_str(), file.c_str(), b.c_str(), a.c_str(), nullptr, strength};
  };
  std::string text_weight = text + ".weight", denoiser_weight = denoiser + ".weight";
  std::string text_a = "text_encoder." + text + ".lora_A.weight",
              text_b = "text_encoder." + text + ".lora_B.weight";
  std::string denoiser_a = "unet." + denoiser + ".lora_A.weight",
              denoiser_b = "unet." + denoiser + ".lora_B.weight";
  torchreel_update of_text = update(text_weight, updates_file, text_a, text_b);
  torchreel_update of_denoiser = update(denoiser_weight, updates_file, denoiser_a, denoiser_b);
  torchreel_rows rows{"text_model.embeddings.token_embedding.weight", rows_file.c_str(), "<torch-reel>"};
  bool none = strength == 0;
  torchreel_adaptation text_adaptation{none ? nullptr : &of_text, none ? 0u : 1u, none ? nullptr : &rows,
                                       none ? 0u : 1u};
  torchreel_adaptation denoiser_adaptation{none ? nullptr : &of_denoiser, none ? 0u : 1u, nullptr, 0};
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
