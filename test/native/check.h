// What the core's tests need of a test framework.
#pragma once

#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "process/error.h"

inline void check(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  std::exit(1);
}

// `work` throws a torchreel::Error with `code` whose message holds `words`.
inline void check_throws(const std::string& code, const std::string& words,
                         const std::function<void()>& work) {
  try {
    work();
  } catch (const torchreel::Error& error) {
    bool holds = error.code() == code && std::string(error.what()).find(words) != std::string::npos;
    check(holds, "expected " + code + " with '" + words + "', got " + error.code() + ": " + error.what());
    return;
  }
  check(false, "expected " + code + " with '" + words + "', nothing was thrown");
}

// `work` throws an error of libtorch whose message holds `words`.
template <typename Error = c10::Error, typename Work>
void refuses(const std::string& words, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    std::string message = error.what_without_backtrace();
    check(message.find(words) != std::string::npos, "'" + words + "' is in: " + message);
    return;
  }
  check(false, "nothing was thrown with '" + words + "'");
}
