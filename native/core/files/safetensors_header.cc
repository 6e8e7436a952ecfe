// The header of a safetensors file is JSON of one fixed form. This parser reads only that form and checks
// every rule as it reads: no duplicate keys, no numbers above 2^53, no bytes left over.
#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "files/safetensors.h"
#include "process/error.h"

namespace torchreel {
namespace {

constexpr size_t max_tensors = 100'000;
constexpr size_t max_string = 4096;  // bytes in a name or a metadata key
constexpr size_t max_rank = 8;
constexpr uint64_t max_integer = (uint64_t{1} << 53) - 1;  // the largest that all JSON readers read exactly

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 15> dtypes{{
    {"BOOL", at::kBool},
    {"U8", at::kByte},
    {"I8", at::kChar},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"I16", at::kShort},
    {"U16", at::kUInt16},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I32", at::kInt},
    {"U32", at::kUInt32},
    {"F32", at::kFloat},
    {"I64", at::kLong},
    {"U64", at::kUInt64},
    {"F64", at::kDouble},
}};

class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  std::map<std::string, TensorEntry> parse() {
    check_utf8();
    std::map<std::string, TensorEntry> entries;
    bool metadata = false;
    if (text_.empty() || text_[0] != '{') fail("its header does not start with '{'");
    object([&](std::string name) {
      if (name == "__metadata__") {
        if (metadata) fail("__metadata__ stands twice in its header");
        metadata = true;
        skip_metadata();
        return;
      }
      if (entries.size() == max_tensors) fail("its header names more than 100000 tensors");
      TensorEntry entry = tensor(name);
      if (!entries.emplace(std::move(name), std::move(entry)).second)
        fail("a tensor's name stands twice in its header");
    });
    whitespace();
    if (at_ != text_.size()) fail("its header goes on after its end");
    return entries;
  }

  [[noreturn]] void fail(const std::string& reason) const {
    throw Error("ERR_MODEL_CORRUPT", path_ + " is no valid safetensors file: " + reason);
  }

 private:
  TensorEntry tensor(const std::string& name) {
    TensorEntry entry{};
    bool dtype = false, shape = false, offsets = false;
    object([&](const std::string& key) {
      if (key == "dtype" && !dtype) {
        dtype = true;
        entry.dtype = dtype_of(string(), name);
      } else if (key == "shape" && !shape) {
        shape = true;
        array([&] {
          if (entry.shape.size() == max_rank) fail(name + " has more than 8 dimensions");
          entry.shape.push_back(static_cast<int64_t>(integer()));
        });
      } else if (key == "data_offsets" && !offsets) {
        offsets = true;
        std::vector<uint64_t> values;
        array([&] {
          if (values.size() == 2) fail(name + " has more than two data_offsets");
          values.push_back(integer());
        });
        if (values.size() != 2) fail(name + " has not two data_offsets");
        entry.begin = values[0];
        entry.end = values[1];
      } else {
        fail(name + " has a second or unknown field '" + key + "'");
      }
    });
    if (!dtype || !shape || !offsets) fail(name + " lacks dtype, shape or data_offsets");
    return entry;
  }

  at::ScalarType dtype_of(const std::string& text, const std::string& name) const {
    for (const auto& [word, dtype] : dtypes) {
      if (word == text) return dtype;
    }
    fail(name + " has the unknown dtype '" + text + "'");
  }

  void skip_metadata() {
    std::set<std::string> keys;
    object([&](std::string key) {
      if (!keys.insert(std::move(key)).second) fail("a key stands twice in __metadata__");
      string(text_.size());
    });
  }

  template <typename Member>
  void object(Member&& member) {
    expect('{');
    if (accept('}')) return;
    do {
      whitespace();
      std::string key = string();
      expect(':');
      whitespace();
      member(std::move(key));
    } while (accept(','));
    expect('}');
  }

  template <typename Element>
  void array(Element&& element) {
    expect('[');
    if (accept(']')) return;
    do {
      whitespace();
      element();
    } while (accept(','));
    expect(']');
  }

  uint64_t integer() {
    size_t start = at_;
    uint64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
      if (value > max_integer) fail("a number in its header is over 2^53");
    }
    if (at_ == start) fail("its header has no whole number where one belongs");
    if (text_[start] == '0' && at_ > start + 1) fail("a number in its header starts with 0");
    return value;
  }

  std::string string(size_t limit = max_string) {
    if (at_ == text_.size() || text_[at_] != '"') fail("its header has no string where one belongs");
    ++at_;
    std::string value;
    while (true) {
      if (at_ == text_.size()) fail("a string in its header has no end");
      char c = text_[at_++];
      if (c == '"') return value;
      if (static_cast<unsigned char>(c) < 0x20) fail("a string in its header holds a control character");
      if (c == '\\') {
        escape(value);
      } else {
        value.push_back(c);
      }
      if (value.size() > limit) fail("a name in its header is longer than 4096 bytes");
    }
  }

  void escape(std::string& value) {
    constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    char c = at_ < text_.size() ? text_[at_++] : '\0';
    if (size_t index = letters.find(c); c != '\0' && index != std::string_view::npos) {
      value.push_back(meanings[index]);
      return;
    }
    if (c != 'u') fail("a string in its header holds an unknown escape");
    uint32_t point = hex4();
    if (point >= 0xD800 && point < 0xDC00) {
      bool pair = text_.substr(at_, 2) == "\\u";
      at_ += pair ? 2 : 0;
      uint32_t low = pair ? hex4() : 0;
      if (low < 0xDC00 || low > 0xDFFF) fail("a string in its header holds half a surrogate pair");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    } else if (point >= 0xDC00 && point <= 0xDFFF) {
      fail("a string in its header holds half a surrogate pair");
    }
    append_utf8(value, point);
  }

  uint32_t hex4() {
    uint32_t point = 0;
    for (int i = 0; i < 4; ++i) {
      constexpr std::string_view digits = "0123456789abcdef";
      char c = at_ < text_.size() ? text_[at_++] : '\0';
      size_t digit = digits.find(static_cast<char>(c >= 'A' && c <= 'F' ? c + 32 : c));
      if (c == '\0' || digit == std::string_view::npos)
        fail("a string in its header holds a broken \\u escape");
      point = point * 16 + static_cast<uint32_t>(digit);
    }
    return point;
  }

  static void append_utf8(std::string& value, uint32_t point) {
    auto byte = [&](uint32_t bits) { value.push_back(static_cast<char>(bits)); };
    if (point < 0x80) {
      byte(point);
    } else if (point < 0x800) {
      byte(0xC0 | point >> 6), byte(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
      byte(0xE0 | point >> 12), byte(0x80 | (point >> 6 & 0x3F)), byte(0x80 | (point & 0x3F));
    } else {
      byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 0x3F));
      byte(0x80 | (point >> 6 & 0x3F)), byte(0x80 | (point & 0x3F));
    }
  }

  // Well-formed UTF-8 as in the Unicode standard, table 3-7: no overlong forms, no surrogates, nothing past
  // U+10FFFF.
  void check_utf8() const {
    auto at = [&](size_t i) { return i < text_.size() ? static_cast<unsigned char>(text_[i]) : 0u; };
    for (size_t i = 0; i < text_.size();) {
      unsigned first = at(i), second = at(i + 1);
      size_t length = first < 0x80   ? 1
                      : first < 0xC2 ? 0
                      : first < 0xE0 ? 2
                      : first < 0xF0 ? 3
                      : first < 0xF5 ? 4
                                     : 0;
      bool good = length > 0;
      for (size_t k = 1; k < length; ++k) good = good && (at(i + k) & 0xC0) == 0x80;
      good = good && !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second > 0x9F);
      good = good && !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second > 0x8F);
      if (!good) fail("its header is not UTF-8");
      i += length;
    }
  }

  void whitespace() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }

  bool accept(char c) {
    whitespace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) fail(std::string("its header has no '") + c + "' where one belongs");
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

}  // namespace

std::map<std::string, TensorEntry> parse_safetensors_header(std::string_view header, uint64_t payload,
                                                            const std::string& path) {
  HeaderParser parser(header, path);
  auto entries = parser.parse();

  // Each tensor's bytes follow from its shape; together they cover the payload without hole or overlap.
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (const auto& [name, entry] : entries) {
    uint64_t bytes = c10::elementSize(entry.dtype);
    for (int64_t size : entry.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
        parser.fail(name + " is too large");
    }
    if (entry.begin > entry.end || entry.end - entry.begin != bytes) {
      parser.fail("the shape of " + name + " does not fit its data_offsets");
    }
    spans.emplace_back(entry.begin, entry.end);
  }
  std::sort(spans.begin(), spans.end());
  uint64_t end = 0;
  for (const auto& [begin, stop] : spans) {
    if (begin != end) parser.fail("its tensors overlap or leave a hole");
    end = stop;
  }
  if (end != payload) {
    parser.fail("its tensors take " + std::to_string(end) + " bytes, but " + std::to_string(payload) +
                " are there");
  }
  return entries;
}

}  // namespace torchreel
