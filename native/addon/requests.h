// Objects from JavaScript as the core's structures, copied on the JavaScript thread. Each holds the structure
// that the core gets, and the memory that the structure points to: none can be copied or moved.
#pragma once

#include <napi.h>

#include <deque>
#include <string>
#include <vector>

#include "torchreel_core.h"

// Strings that stay at their addresses.
class Strings {
 public:
  const char* add(std::string text) { return strings_.emplace_back(std::move(text)).c_str(); }

 private:
  std::deque<std::string> strings_;
};

class PipelineOptions {
 public:
  // NativePipelineOptions of lib/addon/interface.ts
  explicit PipelineOptions(const Napi::Object& options);
  PipelineOptions(const PipelineOptions&) = delete;
  PipelineOptions& operator=(const PipelineOptions&) = delete;

  // Without `context` and `cancelled`.
  const torchreel_pipeline_options& view() const { return view_; }

 private:
  torchreel_network_files read_network(const Napi::Object& network, const char* role);
  torchreel_compiled_denoiser read_compiled_denoiser(const Napi::Object& compiled);

  torchreel_pipeline_options view_{};
  Strings strings_;
  std::vector<torchreel_network_files> networks_;
  std::deque<std::vector<const char*>> weights_;  // paths, by network
  std::vector<uint8_t> library_;
  std::vector<double> latent_scale_, latent_mean_;
};

// P prompts: { tokens: Int32Array, clipSkip } or { embeddings: Float32Array, size: D }.
class Text {
 public:
  Text(const Napi::Object& text, int64_t prompts);
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

  const torchreel_text& view() const { return view_; }

 private:
  torchreel_text view_{};
  std::vector<int32_t> tokens_;
  std::vector<float> embeddings_;
};

class Request {
 public:
  // NativeRequest of lib/addon/interface.ts
  explicit Request(const Napi::Object& request);
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  const torchreel_request& view() const { return view_; }

 private:
  void read_video(const Napi::Object& video);

  torchreel_request view_{};
  std::deque<Text> texts_;
  std::vector<float> latents_;
  std::vector<uint8_t> video_;
  std::vector<double> program_, guidance_, freeu_;
  std::vector<uint64_t> seeds_;
};

// { updates: [{ weight, file, up, down, alpha?, scale }], rows: [{ weight, file, tensor }] }
class AdaptationRequest {
 public:
  explicit AdaptationRequest(const Napi::Object& adaptation);
  AdaptationRequest(const AdaptationRequest&) = delete;
  AdaptationRequest& operator=(const AdaptationRequest&) = delete;

  const torchreel_adaptation& view() const { return view_; }

 private:
  torchreel_adaptation view_{};
  Strings strings_;
  std::vector<torchreel_update> updates_;
  std::vector<torchreel_rows> rows_;
};
