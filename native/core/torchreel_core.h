// The C ABI between the addon and the engine. The addon does not link libtorch: it opens the core that was
// built for the libtorch it finds. A C ABI keeps the C++ runtimes and exceptions of the two apart. Every call
// may be made from any thread. Calls on one pipeline must not overlap, except that pipeline_memory may
// overlap all but pipeline_close. Nothing here throws: a call returns 0, or fills `error` and returns 1.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct torchreel_error {
  char code[40];  // "ERR_…" as in lib/errors.ts, or "ABORTED" when the listener asked to stop
  char message[4032];
  char stage[16];  // "encode", "denoise", "decode" or empty
  int64_t step;    // from 1; 0: none
} torchreel_error;

typedef struct torchreel_network_files {
  const char* role;            // "text_encoder", "denoiser", "vae"
  const char* graph;           // TorchScript archive without weights
  const char* const* weights;  // safetensors files, `weight_count` of them
  size_t weight_count;
  const char* const* float32;  // weights that stay float32 in every dtype, `float32_count` of them
  size_t float32_count;
} torchreel_network_files;

// The denoiser's step as machine code, for one shape (models/compile_denoiser.py).
typedef struct torchreel_compiled_denoiser {
  const uint8_t* library;  // a shared library of `library_size` bytes; NULL: none
  size_t library_size;
  const char* operators;  // JSON: the operators that the library calls by name, or NULL
  int64_t shape[5];       // of the sample
  int64_t texts, tokens;  // G, L
} torchreel_compiled_denoiser;

typedef struct torchreel_pipeline_options {
  const char* family;                       // of models: "modelscope", "wan"
  const torchreel_network_files* networks;  // one of each role
  size_t network_count;
  torchreel_compiled_denoiser compiled_denoiser;
  const char* device;          // "cpu", "cuda", "cuda:1"
  const char* dtype;           // "float32", "float16", "bfloat16"
  const char* offload;         // "none", "model", "sequential"
  int64_t latent_channels;     // C
  const double* latent_scale;  // C numbers each: the autoencoder's latents z are
  const double* latent_mean;   // (z - mean) · scale for the denoiser
  int32_t threads;             // of an operation on the CPU; 0: libtorch's choice
  int32_t capture_graph;       // record a step of the denoiser as a graph of the device and repeat it
  int64_t max_header;          // bytes of a safetensors file's header
  void* context;
  int (*cancelled)(void* context);  // asked before each network is loaded
  // something in the files is not as expected, and they are used all the same; may be NULL
  void (*warning)(void* context, const char* message);
} torchreel_pipeline_options;

// weight += scale · alpha / r · up · down, for a weight (out, in, kernel…): up (out, r, 1…) and down
// (r, in, kernel…). Without down: weight += scale · up, with as many numbers as the weight.
typedef struct torchreel_update {
  const char* weight;  // its name in the network
  const char* file;    // the safetensors file of the tensors
  const char* up;
  const char* down;   // or NULL
  const char* alpha;  // a tensor of one number, or NULL: r
  double scale;
} torchreel_update;

// Rows for the end of a table: a tensor (N, D) or (D).
typedef struct torchreel_rows {
  const char* weight;
  const char* file;
  const char* tensor;
} torchreel_rows;

// All changes that adapters make to one network.
typedef struct torchreel_adaptation {
  const torchreel_update* updates;
  size_t update_count;
  const torchreel_rows* rows;
  size_t row_count;
} torchreel_adaptation;

// P prompts as token ids or as embeddings. Both NULL: no prompts.
typedef struct torchreel_text {
  const int32_t* tokens;      // (P, L)
  int64_t tokens_per_prompt;  // L
  const int64_t* lengths;     // (P) tokens before the padding; NULL: all L. For families that skip padding
  int64_t clip_skip;          // last layers of the text encoder to skip
  const float* embeddings;    // (P, L, D)
  int64_t embedding_size;     // D
} torchreel_text;

// One job: B videos of F frames, made of latents of f frames. All pointers belong to the caller and stay
// valid during the call.
typedef struct torchreel_request {
  int64_t videos;                       // B
  torchreel_text prompts;               // B prompts
  torchreel_text negative_prompts;      // B prompts; empty: no guidance, the denoiser gets the prompts alone
  int64_t frames;                       // F
  int64_t latent_frames;                // f: as many as the family makes F frames of
  int64_t latent_height, latent_width;  // h, w
  const float* latents;                 // (B, C, f, h, w) to start from instead of noise, or NULL
  const uint8_t* video;  // rgb24 (F, H, W, 3) whose latents all videos start from instead of noise, or NULL
  int64_t video_height, video_width;  // H, W
  const double* program;              // see lib/schedulers/program.ts
  size_t program_length;
  const double* guidance;  // one scale per CALL of the program; ignored without negative prompts
  size_t guidance_length;
  const uint64_t* seeds;  // one for all videos, or one per video
  size_t seed_count;
  const double* freeu;     // s1, s2, b1, b2: factors of the first two up blocks' skips and inputs, or NULL
  int64_t window;          // latent frames that the denoiser sees at a time; 0: all
  int64_t window_overlap;  // latent frames that a window shares with the one before it
  int64_t feature_cache;   // of so many calls of the denoiser the first computes all blocks, the others only
                           // the outermost (DeepCache); 0 or 1: every call computes all
  int64_t latents_every;   // report the sample after every so many calls; 0: only at the end
  int64_t tile;            // side of the VAE's tiles in latents; 0: frames in one piece
  int64_t tile_overlap;    // latents that a tile shares with the one before it
  int32_t allow_non_finite;  // continue with NaN and infinity, which become black, instead of ERR_NUMERIC
} torchreel_request;

// Bytes of one network's weights.
typedef struct torchreel_network_memory {
  int64_t mapped;       // of the files: pages that the system reads when they are used and can take back
  int64_t copied;       // on the device, or in another dtype than the file's
  int64_t peak_copied;  // the most that `copied` was
  int64_t pinned;       // page-locked copies on the host, for weights that go to a device again and again
  int32_t placed;       // whether all weights are on the device and in the dtype that the network computes in
} torchreel_network_memory;

typedef struct torchreel_memory {
  torchreel_network_memory text_encoder, denoiser, vae;
  int64_t allocated, reserved;  // by libtorch on the device, for all pipelines; -1 on the CPU: not counted
} torchreel_memory;

enum torchreel_stage { TORCHREEL_ENCODE = 0, TORCHREEL_DENOISE = 1, TORCHREEL_DECODE = 2 };

// The threads of an operation on the CPU.
typedef struct torchreel_threads {
  int32_t threads;  // 0: as before
  int32_t team;  // how many share the work of our own operators in small pieces; 0: equal parts for `threads`
  int32_t apart;  // whether the team's others stay away from the calling thread's processor
} torchreel_threads;

// Called on the thread of the call. `cancelled` is asked before every stage, step and chunk of frames.
typedef struct torchreel_listener {
  void* context;
  int (*cancelled)(void* context);
  void (*progress)(void* context, int stage, int64_t step, int64_t steps);
  // the sample after `step` of `steps` calls: (B, C, f, h, w) float32, contiguous
  void (*latents)(void* context, int64_t step, int64_t steps, const float* data, const int64_t shape[5]);
  // rgb24 frames `first` … `first + count` of the B·F, each (height, width, 3)
  void (*frames)(void* context, int64_t first, int64_t count, int64_t height, int64_t width,
                 const uint8_t* data);
  // something was done in another way than requested
  void (*warning)(void* context, const char* message);
  // asked at the start and before each step: the threads from then on. May be NULL
  torchreel_threads (*threads)(void* context);
} torchreel_listener;

// The network of `run_program`: fills `output` from `input`, both of the sample's size. Returns 0, or 1 to
// stop.
typedef int (*torchreel_model)(void* context, const float* input, double timestep, int64_t call,
                               float* output);

typedef struct torchreel_pipeline torchreel_pipeline;
typedef struct torchreel_generator torchreel_generator;

typedef struct torchreel_core {
  uint64_t abi;          // TORCHREEL_CORE_ABI, which CMake takes from a digest of this file
  const char* libtorch;  // the minor version that the core was compiled for, such as "2.13"

  // To be called when the process is about to exit: a job that still runs then ends with the process at once.
  // Otherwise it would go on while static destructors tear libtorch down.
  void (*leave_at_exit)(void);

  int (*device_check)(const char* device, torchreel_error* error);

  // Floating-point operations a second of large products of matrices on the CPU, by the type of their
  // numbers.
  int (*product_rate)(const char* dtype, double* rate, torchreel_error* error);

  int (*pipeline_open)(const torchreel_pipeline_options* options, torchreel_pipeline** pipeline,
                       torchreel_error* error);
  int (*pipeline_generate)(torchreel_pipeline* pipeline, const torchreel_request* request,
                           const torchreel_listener* listener, torchreel_error* error);
  // Embeds P prompts given as tokens; `embeddings` takes (P, L, D) float32 on the thread of the call.
  // `cancelled` is asked before each stage of the text encoder.
  int (*pipeline_encode)(torchreel_pipeline* pipeline, int64_t prompts, const torchreel_text* text,
                         void* context, int (*cancelled)(void* context),
                         void (*embeddings)(void* context, const float* data, const int64_t shape[3]),
                         torchreel_error* error);
  int (*pipeline_memory)(const torchreel_pipeline* pipeline, torchreel_memory* memory,
                         torchreel_error* error);
  // Replaces the changes that adapters make, for the calls that follow. If it fails, nothing has changed.
  int (*pipeline_adapt)(torchreel_pipeline* pipeline, const torchreel_adaptation* text_encoder,
                        const torchreel_adaptation* denoiser, torchreel_error* error);
  void (*pipeline_close)(torchreel_pipeline* pipeline);

  // libtorch's CPU generator: float32 standard normal numbers in the order of torch.randn
  int (*generator_new)(uint64_t seed, torchreel_generator** generator, torchreel_error* error);
  int (*generator_randn)(torchreel_generator* generator, const int64_t* shape, size_t rank, float* out,
                         torchreel_error* error);
  void (*generator_free)(torchreel_generator* generator);

  // Runs a program over `sample` (N, C, h, w) with `model` as the network. `samples` takes the sample after
  // each CALL: `calls` × N·C·h·w numbers; a program of more calls is refused. `generator` may be NULL if the
  // program draws no noise.
  int (*run_program)(const double* program, size_t program_length, const float* sample,
                     const int64_t shape[4], torchreel_model model, void* context,
                     torchreel_generator* generator, float* samples, int64_t calls, torchreel_error* error);
} torchreel_core;

// The only symbol of the core library.
const torchreel_core* torchreel_core_table(void);

#ifdef __cplusplus
}
#endif
