#include "arguments.h"

namespace {

[[noreturn]] void refuse(const Napi::Value& value, const char* name, const char* expected) {
  throw coded_error(value.Env(), "ERR_INVALID_ARGUMENT", std::string(name) + " must be " + expected);
}

template <typename Array, typename Number>
std::vector<Number> typed_array(const Napi::Value& value, const char* name, napi_typedarray_type type,
                                const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    refuse(value, name, expected);
  auto array = value.As<Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

template <typename Element>
auto read_array(const Napi::Value& value, const char* name, Element&& element) {
  if (!value.IsArray()) refuse(value, name, "an array");
  auto array = value.As<Napi::Array>();
  std::vector<decltype(element(value, name))> elements;
  for (uint32_t i = 0; i < array.Length(); ++i) elements.push_back(element(array.Get(i), name));
  return elements;
}

}  // namespace

Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error core_error(Napi::Env env, const torchreel_error& error) {
  Napi::Error coded = coded_error(env, error.code, error.message);
  if (error.stage[0] != '\0') coded.Set("stage", Napi::String::New(env, error.stage));
  if (error.step > 0) coded.Set("step", Napi::Number::New(env, static_cast<double>(error.step)));
  return coded;
}

std::string string_argument(const Napi::Value& value, const char* name) {
  if (!value.IsString()) refuse(value, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

double number_argument(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) refuse(value, name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t integer_argument(const Napi::Value& value, const char* name) {
  constexpr double limit = 9007199254740991;  // 2^53 − 1
  double number = number_argument(value, name);
  if (!(number >= -limit && number <= limit) || number != static_cast<double>(static_cast<int64_t>(number))) {
    refuse(value, name, "a safe integer");
  }
  return static_cast<int64_t>(number);
}

Napi::Function function_argument(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) refuse(value, name, "a function");
  return value.As<Napi::Function>();
}

Napi::Object object_argument(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) refuse(value, name, "an object");
  return value.As<Napi::Object>();
}

std::vector<std::string> strings_argument(const Napi::Value& value, const char* name) {
  return read_array(value, name, string_argument);
}

std::vector<Napi::Object> objects_argument(const Napi::Value& value, const char* name) {
  return read_array(value, name, object_argument);
}

std::vector<int64_t> integers_argument(const Napi::Value& value, const char* name) {
  return read_array(value, name, integer_argument);
}

std::vector<double> numbers_argument(const Napi::Value& value, const char* name) {
  return read_array(value, name, number_argument);
}

std::vector<int32_t> int32_argument(const Napi::Value& value, const char* name) {
  return typed_array<Napi::Int32Array, int32_t>(value, name, napi_int32_array, "an Int32Array");
}

std::vector<double> float64_argument(const Napi::Value& value, const char* name) {
  return typed_array<Napi::Float64Array, double>(value, name, napi_float64_array, "a Float64Array");
}

std::vector<uint8_t> uint8_argument(const Napi::Value& value, const char* name) {
  return typed_array<Napi::Uint8Array, uint8_t>(value, name, napi_uint8_array, "a Uint8Array");
}

std::vector<float> float32_argument(const Napi::Value& value, const char* name) {
  return typed_array<Napi::Float32Array, float>(value, name, napi_float32_array, "a Float32Array");
}
