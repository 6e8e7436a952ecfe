// libFuzzer on denoising programs: any numbers are a program, or ERR_INVALID_ARGUMENT.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "denoising/program.h"
#include "process/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<double> code(size / sizeof(double));
  if (!code.empty()) std::memcpy(code.data(), data, code.size() * sizeof(double));
  try {
    torchreel::Program program(code);
    if (program.calls() < 1 || program.calls() > static_cast<int64_t>(code.size())) std::abort();
  } catch (const torchreel::Error& error) {
    if (std::strcmp(error.code(), "ERR_INVALID_ARGUMENT") != 0) std::abort();
  }
  return 0;
}
