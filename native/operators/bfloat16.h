// Bfloat16 in memory, float32 in registers.
#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>

#include "vector_math.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are returned by functions that are always inlined

namespace torchreel {

using c10::BFloat16;
typedef uint16_t Bits __attribute__((vector_size(lanes * sizeof(uint16_t)), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(lanes * sizeof(uint32_t)), aligned(4), may_alias));

TORCHREEL_INLINE Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }

TORCHREEL_INLINE Floats load(const BFloat16* from) {
  Words words = __builtin_convertvector(*reinterpret_cast<const Bits*>(from), Words) << 16;
  Floats x;
  std::memcpy(&x, &words, sizeof x);
  return x;
}

TORCHREEL_INLINE void store(float* to, const Floats& x) { *reinterpret_cast<Floats*>(to) = x; }

// The nearest bfloat16 of each lane, ties to even, in the upper half of the lane.
TORCHREEL_INLINE Words nearest(const Floats& x) {
  Words words;
  std::memcpy(&words, &x, sizeof words);
  return words + 0x7fffu + ((words >> 16) & 1u);
}

TORCHREEL_INLINE void store(BFloat16* to, const Floats& x) {
  *reinterpret_cast<Bits*>(to) = __builtin_convertvector(nearest(x) >> 16, Bits);
}

// A function that only runs where `multiplies_bfloat16` (packed_weight.h): every such processor has
// AVX512-BF16.
#if defined(__x86_64__)
#define TORCHREEL_BFLOAT16 __attribute__((target("arch=x86-64-v4,avx512bf16")))
#else
#define TORCHREEL_BFLOAT16
#endif

// `store` by the processor's own conversion. Only in functions that are marked TORCHREEL_BFLOAT16.
TORCHREEL_INLINE void store_fast(BFloat16* to, const Floats& x) {
#if defined(__x86_64__)
  Bits bits;
  asm("vcvtneps2bf16 %1, %0" : "=v"(bits) : "v"(x));
  *reinterpret_cast<Bits*>(to) = bits;
#else
  store(to, x);
#endif
}

TORCHREEL_INLINE void store_fast(float* to, const Floats& x) { store(to, x); }

// `load` in two instructions. Only in functions that are marked TORCHREEL_BFLOAT16.
TORCHREEL_INLINE Floats load_fast(const BFloat16* from) {
#if defined(__x86_64__)
  Words words;
  asm("vpmovzxwd %1, %0" : "=v"(words) : "m"(*reinterpret_cast<const Bits*>(from)));
  words <<= 16;
  Floats x;
  std::memcpy(&x, &words, sizeof x);
  return x;
#else
  return load(from);
#endif
}

TORCHREEL_INLINE Floats load_fast(const float* from) { return load(from); }

// 1 / x within 2⁻¹⁴, for numbers that become bfloat16. Only in functions that are marked TORCHREEL_BFLOAT16.
TORCHREEL_INLINE Floats reciprocal(const Floats& x) {
#if defined(__x86_64__)
  Floats y;
  asm("vrcp14ps %1, %0" : "=v"(y) : "v"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// 2ˣ within 2⁻¹³, for numbers that become bfloat16: 2ⁿ·p(r) with n = ⌊x⌋ and r = x - n, where p is the
// polynomial with the smallest relative error. Only in functions that are marked TORCHREEL_BFLOAT16.
TORCHREEL_INLINE void power_of_two(Floats& x) {
#if defined(__x86_64__)
  Floats r;
  asm("vreduceps $1, %1, %0" : "=v"(r) : "v"(x));
  Floats power = Floats{} + 0.07802452f;
  power = power * r + 0.22606717f;
  power = power * r + 0.69583353f;
  power = power * r + 0.99992522f;
  asm("vscalefps %2, %1, %0" : "=v"(x) : "v"(power), "v"(x));
#else
  for (int64_t lane = 0; lane < lanes; ++lane) x[lane] = std::exp2(x[lane]);
#endif
}

}  // namespace torchreel
