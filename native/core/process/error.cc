#include "process/error.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <new>

namespace torchreel {
namespace {

void fill(torchreel_error* error, const char* code, std::string_view message,
          const char* more = "") noexcept {
  *error = {};
  std::snprintf(error->code, sizeof error->code, "%s", code);
  std::snprintf(error->message, sizeof error->message, "%.*s%s", static_cast<int>(message.size()),
                message.data(), more);
}

std::string_view full_message(const std::exception& error) noexcept {
  auto* own = dynamic_cast<const c10::Error*>(&error);
  return own ? own->what_without_backtrace() : error.what();
}

}  // namespace

std::string_view short_message(const std::exception& error) noexcept {
  std::string_view message = full_message(error);
  if (message.starts_with("The following operation failed in the TorchScript interpreter")) {
    constexpr std::string_view before = "Error: ";
    if (size_t at = message.rfind(before); at != message.npos) message.remove_prefix(at + before.size());
  }
  return message.substr(0, message.find('\n'));
}

// libtorch has no exception types for a refused CPU allocation or a lost CUDA context, so the text decides.
const char* code_of(const std::exception& error, const char* otherwise) noexcept {
  std::string_view message = full_message(error);
  auto says = [&](std::string_view words) { return message.find(words) != message.npos; };
  if (dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const c10::OutOfMemoryError*>(&error) ||
      says("can't allocate memory") || says("out of memory"))
    return "ERR_OUT_OF_MEMORY";
  if (says("CUDA error") || says("CUDA kernel errors")) return "ERR_DEVICE_LOST";
  return otherwise;
}

int guarded(torchreel_error* error, const std::function<void()>& work) noexcept {
  try {
    work();
    return 0;
  } catch (const Error& e) {
    fill(error, e.code(), e.what());
    std::snprintf(error->stage, sizeof error->stage, "%s", e.stage());
    error->step = e.step();
  } catch (const std::bad_alloc&) {
    fill(error, "ERR_OUT_OF_MEMORY", "memory could not be allocated");
  } catch (const std::exception& e) {
    const char* code = code_of(e, "ERR_INTERNAL");
    bool lost = std::string_view(code) == "ERR_DEVICE_LOST";
    fill(error, code, short_message(e), lost ? ": the device is lost, restart the process" : "");
  } catch (...) {
    fill(error, "ERR_INTERNAL", "an exception that is no std::exception was thrown");
  }
  return 1;
}

}  // namespace torchreel
