// Vectors of 16 floats for the operators' inner loops. The compiler splits them into the processor's vectors.
// A function that is marked TORCHREEL_CLONED is compiled for several kinds of processors; the dynamic loader
// chooses the best one that this processor can run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define TORCHREEL_CLONED  // sanitizers are not ready yet when the loader chooses
#else
#define TORCHREEL_CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
#define TORCHREEL_INLINE __attribute__((always_inline)) inline

namespace torchreel {

constexpr int64_t lanes = 16;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(lanes * sizeof(int32_t))));
constexpr Integers lane_numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// The next multiple of `lanes`.
constexpr int64_t padded_to_lanes(int64_t count) { return (count + lanes - 1) / lanes * lanes; }

TORCHREEL_INLINE float largest_of(Floats x) {
#pragma GCC unroll 4
  for (int32_t distance = lanes / 2; distance > 0; distance /= 2) {
    Floats other = __builtin_shuffle(x, lane_numbers ^ distance);
    x = x > other ? x : other;
  }
  return x[0];
}

TORCHREEL_INLINE float sum_of(Floats x) {
#pragma GCC unroll 4
  for (int32_t distance = lanes / 2; distance > 0; distance /= 2)
    x += __builtin_shuffle(x, lane_numbers ^ distance);
  return x[0];
}

// Transposes a matrix of 16 vectors.
TORCHREEL_INLINE void transpose(Floats (&rows)[lanes]) {
#pragma GCC unroll 4
  for (int32_t distance = lanes / 2; distance > 0; distance /= 2) {
    // The lanes in the first half of every 2·distance of both rows, and those in the second half.
    Integers near = (lane_numbers & distance) == 0 ? lane_numbers : lane_numbers - distance + lanes;
    Integers far = (lane_numbers & distance) == 0 ? lane_numbers + distance : lane_numbers + lanes;
#pragma GCC unroll 16
    for (int64_t row = 0; row < lanes; ++row) {
      if (row & distance) continue;
      Floats first = rows[row], second = rows[row + distance];
      rows[row] = __builtin_shuffle(first, second, near);
      rows[row + distance] = __builtin_shuffle(first, second, far);
    }
  }
}

// eˣ of all lanes in place, within 2 units in the last place; x is clamped to [-87, 88], where eˣ is a normal
// number. Cody and Waite: eˣ = 2ⁿ·eʳ with n = round(x / ln 2) and a polynomial in r.
TORCHREEL_INLINE void exponential(Floats& x) {
  x = x < -87.0f ? Floats{} - 87.0f : x;
  x = x > 88.0f ? Floats{} + 88.0f : x;
  constexpr float rounds = 12582912.0f;  // 1.5·2²³: a number that is added to it loses its fraction
  Floats n = (x * 1.44269504f + rounds) - rounds;
  Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats power = Floats{} + 1.9875691500e-4f;
  power = power * r + 1.3981999507e-3f;
  power = power * r + 8.3334519073e-3f;
  power = power * r + 4.1665795894e-2f;
  power = power * r + 1.6666665459e-1f;
  power = power * r + 5.0000001201e-1f;
  power = power * (r * r) + r + 1.0f;
  Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  x = power * scale;
}

}  // namespace torchreel
