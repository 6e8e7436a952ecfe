// Arguments from JavaScript, copied to plain values on the JavaScript thread. lib/addon/ is the only caller
// and checks them for the user first; a wrong one throws an Error with code ERR_INVALID_ARGUMENT.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "torchreel_core.h"

Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message);
Napi::Error core_error(Napi::Env env, const torchreel_error& error);

std::string string_argument(const Napi::Value& value, const char* name);
int64_t integer_argument(const Napi::Value& value, const char* name);
double number_argument(const Napi::Value& value, const char* name);
Napi::Function function_argument(const Napi::Value& value, const char* name);
Napi::Object object_argument(const Napi::Value& value, const char* name);
std::vector<std::string> strings_argument(const Napi::Value& value, const char* name);
std::vector<Napi::Object> objects_argument(const Napi::Value& value, const char* name);
std::vector<int64_t> integers_argument(const Napi::Value& value, const char* name);
std::vector<double> numbers_argument(const Napi::Value& value, const char* name);
std::vector<int32_t> int32_argument(const Napi::Value& value, const char* name);
std::vector<double> float64_argument(const Napi::Value& value, const char* name);
std::vector<uint8_t> uint8_argument(const Napi::Value& value, const char* name);
std::vector<float> float32_argument(const Napi::Value& value, const char* name);

// A handle: an External with the tag of its class, so that no other object can pass for one.
template <typename T>
Napi::Value make_handle(Napi::Env env, std::unique_ptr<T> object) {
  auto handle = Napi::External<T>::New(env, object.release(), [](Napi::Env, T* data) { delete data; });
  handle.TypeTag(&T::type_tag);
  return handle;
}

template <typename T>
T& handle_argument(const Napi::Value& value, const char* name) {
  if (!value.IsExternal() || !value.As<Napi::External<T>>().CheckTypeTag(&T::type_tag)) {
    throw coded_error(value.Env(), "ERR_INVALID_ARGUMENT",
                      std::string(name) + " is not a handle of this addon");
  }
  return *value.As<Napi::External<T>>().Data();
}
