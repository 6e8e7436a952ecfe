// What the checks have pipelines do, and what the CPU makes of it.
#include <map>

#include "checks.h"

namespace checks {
namespace {

const std::map<std::string, studio::Job>& jobs() {
  static const auto* const all = new std::map<std::string, studio::Job>{
      {"plain", {.guided = false}},
      {"adapted", {.guided = false}},
      {"small", {.frames = 1, .height = 4, .width = 4, .program = studio::euler_steps(1), .guidance = {3}}},
      {"every instruction",
       {.program = studio::every_instruction(), .guidance = {3, 1, 3}, .latents_every = 1}},
      {"given latents", {.given_latents = true}},
      {"given latents and FreeU", {.clip_skip = 1, .given_latents = true, .freeu = {0.9, 0.2, 1.2, 1.4}}},
      {"a video in tiles", {.height = 12, .from_video = true, .tile = 8, .tile_overlap = 2}},
      {"windows and kept features", {.frames = 5, .window = 3, .window_overlap = 1, .feature_cache = 2}},
      {"two videos of embeddings", {.videos = 2, .guided = false, .embedded = true, .seeds = {3, 4}}},
  };
  return *all;
}

}  // namespace

const studio::Job& job(const std::string& name) { return jobs().at(name); }

const std::vector<std::string>& jobs_of(const std::string& family) {
  static const auto* const all = new std::map<std::string, std::vector<std::string>>{
      {"modelscope",
       {"every instruction", "given latents and FreeU", "a video in tiles", "windows and kept features",
        "two videos of embeddings"}},
      {"wan", {"every instruction", "given latents", "a video in tiles", "two videos of embeddings"}},
  };
  return all->at(family);
}

const studio::Result& on_cpu(const std::string& family, const std::string& name) {
  static auto* const all = new std::map<std::string, std::map<std::string, studio::Result>>;
  std::map<std::string, studio::Result>& results = (*all)[family];
  if (results.empty()) {
    studio::Pipeline cpu({.family = family});
    for (const char* plain : {"plain", "small"}) results.emplace(plain, cpu.run(job(plain)));
    for (const std::string& each : jobs_of(family)) results.emplace(each, cpu.run(job(each)));
    cpu.adapt(1);
    results.emplace("adapted", cpu.run(job("adapted")));
  }
  return results.at(name);
}

}  // namespace checks
