// The core's one exception type, and its way into the C ABI's error struct.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "torchreel_core.h"

namespace torchreel {

class Error : public std::exception {
 public:
  // `stage` and `step`, from 1, where they say more than the message.
  Error(std::string code, std::string message, std::string stage = "", int64_t step = 0)
      : code_(std::move(code)), message_(std::move(message)), stage_(std::move(stage)), step_(step) {}
  const char* code() const noexcept { return code_.c_str(); }
  const char* stage() const noexcept { return stage_.c_str(); }
  int64_t step() const noexcept { return step_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string code_;
  std::string message_;
  std::string stage_;
  int64_t step_;
};

inline Error invalid_argument(std::string message) { return {"ERR_INVALID_ARGUMENT", std::move(message)}; }

// One line of what an exception of libtorch says: neither its backtrace nor TorchScript's way to the failure.
std::string_view told(const std::exception& error) noexcept;

// What an exception of libtorch means, `otherwise` where it says nothing that is known.
const char* code_of(const std::exception& error, const char* otherwise) noexcept;

// Runs `work`; whatever it throws becomes `error`. Returns 0 or 1, as the ABI does.
int guarded(torchreel_error* error, const std::function<void()>& work) noexcept;

}  // namespace torchreel
