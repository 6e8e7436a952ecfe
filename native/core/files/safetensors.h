// Safetensors files: a header of names, types, shapes and offsets, then the numbers. Files come from
// anywhere, so every rule of the format is checked before any tensor can be used
// (https://github.com/huggingface/safetensors#format).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "files/mapped_file.h"

namespace torchreel {

struct TensorEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin;  // bytes from the end of the header
  uint64_t end;
};

// Parses and checks a header; `payload` is the number of bytes that follow it. Throws ERR_MODEL_CORRUPT
// naming `path`.
std::map<std::string, TensorEntry> parse_safetensors_header(std::string_view header, uint64_t payload,
                                                            const std::string& path);

// A mapped file. Its tensors are on its pages: they are read-only and keep the mapping alive. A file is
// mapped once for all who open it, so a second pipeline on the same weights needs no memory for them.
class SafetensorsFile {
 public:
  static constexpr uint64_t default_max_header = 100'000'000;  // bytes, the format's own limit

  // Throws ERR_MODEL_CORRUPT for a header of more than `max_header` bytes, and as mapped_file.h.
  static std::shared_ptr<const SafetensorsFile> open(const std::string& path,
                                                     uint64_t max_header = default_max_header);

  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }

  // Throws ERR_MODEL_CORRUPT if the file was rewritten since it was opened.
  void check() const { file_->check(); }

  // Why the file was read into memory instead of mapped; empty: it is mapped.
  const std::string& not_mapped() const { return file_->not_mapped(); }

  // Takes the pages out of memory until they are read again.
  void drop_pages() const { file_->drop_pages(); }
  void drop_pages(const at::Tensor& tensor) const {
    file_->drop_pages(tensor.const_data_ptr(), tensor.nbytes());
  }

 private:
  SafetensorsFile(std::unique_ptr<MappedFile> file, uint64_t max_header);
  friend at::Tensor mapped_tensor(const std::shared_ptr<const SafetensorsFile>& file,
                                  const std::string& name);

  std::unique_ptr<MappedFile> file_;
  const char* payload_ = nullptr;
  std::map<std::string, TensorEntry> entries_;
};

// The tensor `name` on the pages of `file`, without a copy unless its address is not aligned to its type.
at::Tensor mapped_tensor(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name);

}  // namespace torchreel
