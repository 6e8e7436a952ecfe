#include "networks/prompt_embedder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <span>

#include "process/faults.h"
#include "process/job_checks.h"

namespace torchreel {
namespace {

constexpr size_t max_cached = 8;  // lists of prompts

// How many rows of given embeddings (L, D) are left without the zeros at the end.
int64_t count_real_rows(const at::Tensor& rows) {
  at::Tensor real = rows.ne(0).any(1);
  int64_t length = rows.size(0);
  const bool* is_real = real.const_data_ptr<bool>();
  while (length > 1 && !is_real[length - 1]) --length;
  return length;
}

// Tokens of each prompt before the padding.
std::vector<int64_t> read_lengths(const PromptEmbedder::Prompts& prompts) {
  const torchreel_text& text = prompts.text;
  if (text.lengths) return {text.lengths, text.lengths + prompts.count};
  return std::vector<int64_t>(prompts.count, text.tokens_per_prompt);
}

TokenLists read_tokens(const PromptEmbedder::Prompts& prompts) {
  const torchreel_text& text = prompts.text;
  at::Tensor ids =
      at::from_blob(const_cast<int32_t*>(text.tokens), {prompts.count, text.tokens_per_prompt}, at::kInt);
  return {ids.to(at::kLong), read_lengths(prompts), text.clip_skip};
}

}  // namespace

std::vector<Texts> PromptEmbedder::embed(const std::vector<Prompts>& lists,
                                         const std::function<void()>& check,
                                         const std::function<void()>& on_submitted) {
  std::vector<Texts> texts(lists.size());
  {
    std::vector<TokenLists> batches;
    std::vector<size_t> encoded;  // the list of each batch
    for (size_t i = 0; i < lists.size(); ++i) {
      if (lists[i].text.embeddings) {
        texts[i] = read_embeddings(lists[i]);
      } else if (const Texts* cached = find_texts(lists[i])) {
        texts[i] = *cached;
      } else {
        batches.push_back(read_tokens(lists[i]));
        encoded.push_back(i);
      }
    }
    WeightHold hold = batches.empty() ? nullptr : encoder_.hold_weights();
    std::vector<Texts> results = batches.empty() ? std::vector<Texts>() : encoder_.encode(batches, check);
    for (size_t i = 0; i < results.size(); ++i) {
      faults::spoil(results[i].embeddings);
      results[i].embeddings = results[i].embeddings.to(dtype_);
      texts[encoded[i]] = std::move(results[i]);
    }
    on_submitted();
    for (const Texts& each : texts) check_finite(each.embeddings, "the text encoder", "encode", 1);
    for (size_t i = 0; i < lists.size(); ++i) cache_texts(lists[i], texts[i]);
  }
  network_.drop_pages();
  return texts;
}

// All rows are the caller's, whatever the model's count of positions is. Zeros at the end count as padding.
Texts PromptEmbedder::read_embeddings(const Prompts& prompts) const {
  const torchreel_text& text = prompts.text;
  at::Tensor given = at::from_blob(const_cast<float*>(text.embeddings),
                                   {prompts.count, text.tokens_per_prompt, text.embedding_size}, at::kFloat);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < prompts.count; ++i) lengths.push_back(count_real_rows(given[i]));
  return {given.to(network_.device(), dtype_, /*non_blocking=*/false, /*copy=*/true), std::move(lengths),
          text.tokens_per_prompt};
}

const Texts* PromptEmbedder::find_texts(const Prompts& prompts) const {
  const torchreel_text& text = prompts.text;
  if (!text.tokens) return nullptr;
  std::span tokens(text.tokens, static_cast<size_t>(prompts.count * text.tokens_per_prompt));
  std::vector<int64_t> lengths = read_lengths(prompts);
  auto found = std::ranges::find_if(cache_, [&](const CachedTexts& cached) {
    return cached.prompts == prompts.count && cached.clip_skip == text.clip_skip &&
           std::ranges::equal(cached.tokens, tokens) && cached.texts.lengths == lengths;
  });
  return found == cache_.end() ? nullptr : &found->texts;
}

void PromptEmbedder::cache_texts(const Prompts& prompts, const Texts& texts) {
  const torchreel_text& text = prompts.text;
  if (!text.tokens || find_texts(prompts)) return;
  const int32_t* end = text.tokens + prompts.count * text.tokens_per_prompt;
  cache_.push_front({{text.tokens, end}, prompts.count, text.clip_skip, texts});
  if (cache_.size() > max_cached) cache_.pop_back();
}

}  // namespace torchreel
