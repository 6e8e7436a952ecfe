// libFuzzer on the parser of safetensors headers: any bytes give entries that lie within the payload, or
// ERR_MODEL_CORRUPT.
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "files/safetensors.h"
#include "process/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first byte is how many bytes of numbers follow the header.
  uint64_t payload = size > 0 ? data[0] : 0;
  std::string_view header(reinterpret_cast<const char*>(data) + (size > 0), size - (size > 0));
  try {
    for (const auto& [name, entry] : torchreel::parse_safetensors_header(header, payload, "x")) {
      if (entry.begin > entry.end || entry.end > payload || entry.shape.size() > 8) std::abort();
    }
  } catch (const torchreel::Error& error) {
    if (std::strcmp(error.code(), "ERR_MODEL_CORRUPT") != 0) std::abort();
  }
  return 0;
}
