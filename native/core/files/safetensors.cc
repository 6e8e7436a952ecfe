#include "files/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <mutex>

#include "process/error.h"
#include "process/faults.h"

namespace torchreel {
namespace {

[[noreturn]] void corrupt(const std::string& path, const std::string& reason) {
  throw Error("ERR_MODEL_CORRUPT", path + " is no valid safetensors file: " + reason);
}

// Judged by its first bytes: an archive of torch.save, or a bare pickle of protocol 2 to 5.
bool is_pickle(uint64_t first_bytes) {
  unsigned char bytes[sizeof first_bytes];
  std::memcpy(bytes, &first_bytes, sizeof bytes);
  return std::memcmp(bytes, "PK\x03\x04", 4) == 0 || (bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5);
}

struct OpenFiles {
  std::mutex mutex;
  std::map<MappedFile::Identity, std::weak_ptr<const SafetensorsFile>> files;
};

OpenFiles& open_files() {
  static auto* const all = new OpenFiles;  // never destroyed: job threads may outlive static destruction
  return *all;
}

}  // namespace

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::string& path, uint64_t max_header) {
  faults::point();
  auto mapped = std::make_unique<MappedFile>(path);
  MappedFile::Identity identity = mapped->identity();
  OpenFiles& all = open_files();
  std::lock_guard lock(all.mutex);
  std::erase_if(all.files, [](const auto& item) { return item.second.expired(); });
  if (auto found = all.files.find(identity); found != all.files.end()) {
    if (auto file = found->second.lock()) return file;
  }
  std::shared_ptr<const SafetensorsFile> file(new SafetensorsFile(std::move(mapped), max_header));
  all.files[identity] = file;
  return file;
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<MappedFile> mapped, uint64_t max_header)
    : file_(std::move(mapped)) {
  const std::string& path = file_->path();
  uint64_t header = 0, size = file_->size();
  if (size < sizeof header) corrupt(path, "it has only " + std::to_string(size) + " bytes");
  if (!file_->read(&header, sizeof header)) corrupt(path, "its header cannot be read");
  if (std::memcmp(&header, "version ", sizeof header) == 0) {
    corrupt(path, "it is a Git LFS pointer; get the weights with `git lfs pull`");
  }
  if (header > max_header && is_pickle(header)) {
    throw Error("ERR_MODEL_UNTRUSTED",
                path + " is a pickle, in spite of its name. A pickle is a program and is not run");
  }
  if (header > max_header) {
    corrupt(path, "its header claims " + std::to_string(header) + " bytes, more than " +
                      std::to_string(max_header));
  }
  if (header > size - sizeof header) corrupt(path, "it ends inside its header");

  file_->map();
  const char* bytes = file_->data() + sizeof header;
  payload_ = bytes + header;
  entries_ = parse_safetensors_header({bytes, header}, size - sizeof header - header, path);
}

at::Tensor mapped_tensor(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name) {
  const TensorEntry& entry = file->entries_.at(name);
  char* data = const_cast<char*>(file->payload_) + entry.begin;  // read-only pages: a write would fault
  at::Tensor tensor = at::from_blob(
      data, entry.shape, [file](void*) {}, at::TensorOptions().dtype(entry.dtype));
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.dtype) == 0) return tensor;
  at::Tensor aligned = at::empty(entry.shape, entry.dtype);
  std::memcpy(aligned.mutable_data_ptr(), data, entry.end - entry.begin);
  return aligned;
}

}  // namespace torchreel
