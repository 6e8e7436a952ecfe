#include "error.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <new>
#include <string_view>

namespace torchreel {
namespace {

void fill(torchreel_error* error, const char* code, const char* message) noexcept {
  *error = {};
  std::snprintf(error->code, sizeof error->code, "%s", code);
  std::snprintf(error->message, sizeof error->message, "%s", message);
}

// libtorch has no type of its own for a refused CPU allocation nor for a lost CUDA context: only the text
// tells.
const char* code_of(std::string_view message) noexcept {
  auto says = [&](std::string_view words) { return message.find(words) != std::string_view::npos; };
  if (says("can't allocate memory") || says("out of memory")) return "ERR_OUT_OF_MEMORY";
  if (says("CUDA error") || says("CUDA kernel errors")) return "ERR_DEVICE_LOST";
  return "ERR_INTERNAL";
}

}  // namespace

int guarded(torchreel_error* error, const std::function<void()>& work) noexcept {
  try {
    work();
    return 0;
  } catch (const Error& e) {
    fill(error, e.code(), e.what());
    std::snprintf(error->stage, sizeof error->stage, "%s", e.stage());
    error->step = e.step();
  } catch (const c10::OutOfMemoryError& e) {
    fill(error, "ERR_OUT_OF_MEMORY", e.what_without_backtrace());
  } catch (const c10::Error& e) {
    fill(error, code_of(e.what_without_backtrace()), e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    fill(error, "ERR_OUT_OF_MEMORY", "memory could not be allocated");
  } catch (const std::exception& e) {
    fill(error, code_of(e.what()), e.what());
  } catch (...) {
    fill(error, "ERR_INTERNAL", "something that is no std::exception was thrown");
  }
  return 1;
}

}  // namespace torchreel
