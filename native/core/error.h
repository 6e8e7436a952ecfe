// The core's one exception type, and its way into the C ABI's error struct.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <utility>

#include "torchreel_core.h"

namespace torchreel {

class Error : public std::exception {
 public:
  Error(std::string code, std::string message) : code_(std::move(code)), message_(std::move(message)) {}
  const char* code() const noexcept { return code_.c_str(); }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string code_;
  std::string message_;
};

inline Error invalid_argument(std::string message) { return {"ERR_INVALID_ARGUMENT", std::move(message)}; }

// Runs `work`; whatever it throws becomes `error`. Returns 0 or 1, as the ABI does.
int guarded(torchreel_error* error, const std::function<void()>& work) noexcept;

}  // namespace torchreel
