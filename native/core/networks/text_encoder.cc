#include "networks/text_encoder.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <span>

#include "process/faults.h"
#include "process/job_checks.h"

namespace torchreel {
namespace {

constexpr size_t max_cached = 8;  // lists of prompts

}  // namespace

std::vector<at::Tensor> TextEncoder::embed(const std::vector<Prompts>& lists,
                                           const std::function<void()>& queued) {
  std::vector<at::Tensor> embeddings;
  {
    auto needs_weights = [&](const Prompts& prompts) {
      return prompts.text.tokens && !find_embeddings(prompts);
    };
    WeightHold hold = std::ranges::any_of(lists, needs_weights) ? network_.place() : nullptr;
    for (const Prompts& prompts : lists) embeddings.push_back(embed_list(prompts));
    queued();
    for (const at::Tensor& each : embeddings) check_finite(each, "the text encoder", "encode", 1);
    for (size_t i = 0; i < lists.size(); ++i) cache_embeddings(lists[i], embeddings[i]);
  }
  network_.drop_pages();
  return embeddings;
}

at::Tensor TextEncoder::embed_list(const Prompts& prompts) {
  const torchreel_text& text = prompts.text;
  if (text.embeddings) {
    at::Tensor given =
        at::from_blob(const_cast<float*>(text.embeddings),
                      {prompts.count, text.tokens_per_prompt, text.embedding_size}, at::kFloat);
    return given.to(network_.device(), network_.dtype(), /*non_blocking=*/false, /*copy=*/true);
  }
  if (const at::Tensor* cached = find_embeddings(prompts)) return *cached;
  at::Tensor ids =
      at::from_blob(const_cast<int32_t*>(text.tokens), {prompts.count, text.tokens_per_prompt}, at::kInt);
  at::Tensor embeddings =
      network_.call("forward", {ids.to(at::kLong).to(network_.device()), text.clip_skip}).toTensor();
  faults::spoil(embeddings);
  return embeddings;
}

const at::Tensor* TextEncoder::find_embeddings(const Prompts& prompts) const {
  const torchreel_text& text = prompts.text;
  if (!text.tokens) return nullptr;
  std::span tokens(text.tokens, static_cast<size_t>(prompts.count * text.tokens_per_prompt));
  auto found = std::ranges::find_if(cache_, [&](const CachedEmbeddings& cached) {
    return cached.prompts == prompts.count && cached.clip_skip == text.clip_skip &&
           std::ranges::equal(cached.tokens, tokens);
  });
  return found == cache_.end() ? nullptr : &found->embeddings;
}

void TextEncoder::cache_embeddings(const Prompts& prompts, const at::Tensor& embeddings) {
  const torchreel_text& text = prompts.text;
  if (!text.tokens || find_embeddings(prompts)) return;
  const int32_t* end = text.tokens + prompts.count * text.tokens_per_prompt;
  cache_.push_front({{text.tokens, end}, prompts.count, text.clip_skip, embeddings});
  if (cache_.size() > max_cached) cache_.pop_back();
}

}  // namespace torchreel
