// Every rule of the format, on headers that break it, and files that end too early.
#include "files/safetensors.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "check.h"

using torchreel::mapped_tensor;
using torchreel::parse_safetensors_header;
using torchreel::SafetensorsFile;

namespace {

const std::string corrupt = "ERR_MODEL_CORRUPT";

auto parse(const std::string& header, uint64_t payload) {
  return parse_safetensors_header(header, payload, "x");
}

void test_good_headers() {
  auto entries =
      parse(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},
      "a":{"shape":[],"dtype":"F32","data_offsets":[0,4]},"z":{"dtype":"F16","shape":[0,7],"data_offsets":[28,28]}}   )",
            28);
  check(entries.size() == 3, "three tensors");
  check(entries.at("a").shape.empty(), "a has rank 0");
  check(entries.at("b").shape == std::vector<int64_t>({2, 3}), "b is (2, 3)");
  check(entries.at("z").begin == entries.at("z").end, "z is empty");
  check(parse("{}", 0).empty(), "no tensors at all");
  check(parse(R"({"\u00e4\ud83c\udfac\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1)
            .contains("\xC3\xA4\xF0\x9F\x8E\xAC\n"),
        "escapes in a name");
}

void test_bad_headers() {
  struct Case {
    const char* words;
    std::string header;
    uint64_t payload;
  };
  auto one = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  const Case cases[] = {
      {"does not start", "", 0},
      {"does not start", "[1]", 0},
      {"does not start", " {}", 0},
      {"goes on", "{}{}", 0},
      {"no string", "{1:2}", 0},
      {"no '}'", "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4},
      {"no ':'", "{\"t\"}", 0},
      {"no end", "{\"t", 0},
      {"control character", "{\"a\nb\":1}", 0},
      {"unknown escape", "{\"a\\qb\":1}", 0},
      {"broken \\u", "{\"a\\u12g4\":1}", 0},
      {"surrogate", "{\"a\\ud800\":1}", 0},
      {"surrogate", "{\"a\\udc00\":1}", 0},
      {"UTF-8", "{\"\xC0\xAF\":1}", 0},
      {"UTF-8", "{\"\xED\xA0\x80\":1}", 0},
      {"UTF-8", "{\"\xFF\":1}", 0},
      {"UTF-8", "{\"a\xE2\x82", 0},
      {"unknown dtype", one(R"("dtype":"F128","shape":[1],"data_offsets":[0,16])"), 16},
      {"second or unknown", one(R"("dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4])"), 4},
      {"second or unknown", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1)"), 4},
      {"lacks", one(R"("dtype":"F32","shape":[1])"), 4},
      {"whole number", one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4},
      {"no ']'", one(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,6])"), 6},
      {"whole number", one(R"("dtype":"F32","shape":["1"],"data_offsets":[0,4])"), 4},
      {"starts with 0", one(R"("dtype":"F32","shape":[01],"data_offsets":[0,4])"), 4},
      {"over 2^53", one(R"("dtype":"U8","shape":[9007199254740993],"data_offsets":[0,4])"), 4},
      {"8 dimensions", one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), 1},
      {"too large", one(R"("dtype":"U8","shape":[9007199254740991,9007199254740991],"data_offsets":[0,1])"),
       1},
      {"not two", one(R"("dtype":"U8","shape":[1],"data_offsets":[0])"), 1},
      {"more than two", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1},
      {"does not fit", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4},
      {"does not fit", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4},
      {"overlap or leave a hole", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), 8},
      {"are there", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), 8},
      {"are there", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 4},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3},
      {"twice",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2},
      {"twice", R"({"__metadata__":{},"__metadata__":{}})", 0},
      {"twice", R"({"__metadata__":{"a":"1","a":"2"}})", 0},
      {"no string", R"({"__metadata__":{"a":1}})", 0},
      {"longer than 4096", "{\"" + std::string(5000, 'a') + "\":1}", 0},
  };
  for (const Case& c : cases) check_throws(corrupt, c.words, [&] { parse(c.header, c.payload); });

  std::string many = "{";
  for (int i = 0; i < 100'001; ++i) {
    many += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  check_throws(corrupt, "more than 100000", [&] { parse(many + "}", 0); });
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_(std::filesystem::temp_directory_path() /
              ("torchreel-" + std::to_string(::getpid()) + ".safetensors")) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

std::string with_length(uint64_t length, const std::string& rest) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + rest;
}

void test_files() {
  const std::pair<const char*, std::string> cases[] = {
      {"0 bytes", ""},
      {"7 bytes", "1234567"},
      {"claims", with_length(uint64_t{1} << 63, "{}")},
      {"claims", with_length(100'000'001, "{}")},
      {"inside its header", with_length(3, "{}")},
      {"does not start", with_length(0, "")},
      {"LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
  };
  for (const auto& [words, content] : cases) {
    TemporaryFile file(content);
    check_throws(corrupt, words, [&] { SafetensorsFile::open(file.path()); });
  }
  check_throws("ERR_MODEL_NOT_FOUND", "cannot be opened",
               [] { SafetensorsFile::open("/nowhere/x.safetensors"); });
  check_throws(corrupt, "regular", [] { SafetensorsFile::open("/tmp"); });
}

void test_misaligned() {
  std::string header =
      R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  float numbers[2] = {1.5f, -2.25f};
  TemporaryFile good(
      with_length(header.size(), header + "x" + std::string(reinterpret_cast<char*>(numbers), 8)));
  at::Tensor tensor = mapped_tensor(SafetensorsFile::open(good.path()), "t");
  check(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 4 == 0,
        "a misaligned tensor is moved to an aligned place");
  check(tensor[0].item<float>() == 1.5f && tensor[1].item<float>() == -2.25f, "and keeps its numbers");
}

// A real file, cut at every 64th of its length.
void test_truncation(const std::string& fixtures) {
  std::string path = fixtures + "/tiny/checkpoint/vae/diffusion_pytorch_model.safetensors";
  std::ifstream in(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(in), {}};
  check(content.size() > 1'000'000, "the fixture is there");
  for (size_t part = 0; part < 64; ++part) {
    TemporaryFile file(content.substr(0, content.size() * part / 64));
    check_throws(corrupt, file.path(), [&] { SafetensorsFile::open(file.path()); });
  }
  auto first = SafetensorsFile::open(path), second = SafetensorsFile::open(path);
  check(first == second, "a file that is open is mapped once");
  std::string name = first->entries().begin()->first;
  check(mapped_tensor(first, name).data_ptr() == mapped_tensor(second, name).data_ptr(),
        "and its tensors are shared");
}

}  // namespace

int main(int, char** arguments) {
  test_good_headers();
  test_bad_headers();
  test_files();
  test_misaligned();
  test_truncation(arguments[1]);
  return 0;
}
