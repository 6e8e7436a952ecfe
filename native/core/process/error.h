// The core's only exception type, and its conversion to the C ABI's error struct.
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
  // `stage`, and `step` from 1, where they add to the message.
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

// The message of an exception of libtorch in one line, without backtrace and TorchScript's call stack.
std::string_view short_message(const std::exception& error) noexcept;

// The error code that an exception of libtorch stands for, or `otherwise`.
const char* code_of(const std::exception& error, const char* otherwise) noexcept;

// Runs `work` and turns what it throws into `error`. Returns 0 or 1, as the ABI does.
int guarded(torchreel_error* error, const std::function<void()>& work) noexcept;

}  // namespace torchreel
