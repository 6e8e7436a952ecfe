// What is ordered before what. Each stream counts its work; a clock says of each stream up to which of its
// work it knows to be done (Lamport 1978; Mattern 1989).
#pragma once

#include <c10/core/Stream.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "accelerator.h"

namespace accelerator {

// Few, so that a stream is soon given out again: to the same order of work as CUDA's 32, but sooner.
constexpr size_t pool_streams = 2;                          // of each priority
constexpr size_t streams_of_device = 1 + 2 * pool_streams;  // the default stream is 0
constexpr size_t stream_count = device_count * streams_of_device;

using Tick = uint64_t;

struct Clock {
  std::array<Tick, stream_count> ticks{};

  void join(const Clock& other) {
    for (size_t i = 0; i < stream_count; ++i) ticks[i] = std::max(ticks[i], other.ticks[i]);
  }
  bool covers(size_t stream, Tick tick) const { return ticks[stream] >= tick; }
};

// Streams of all devices have one number each.
inline size_t stream_number(const c10::Stream& stream) {
  return static_cast<size_t>(stream.device_index()) * streams_of_device + static_cast<size_t>(stream.id());
}

}  // namespace accelerator
