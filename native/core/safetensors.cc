#include "safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <tuple>

#include "error.h"

namespace torchreel {
namespace {

constexpr uint64_t max_header = 100'000'000;  // bytes, the format's own limit

[[noreturn]] void corrupt(const std::string& path, const std::string& reason) {
  throw Error("ERR_MODEL_CORRUPT", path + " is no valid safetensors file: " + reason);
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : value_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (value_ < 0) throw Error("ERR_MODEL_NOT_FOUND", path + " cannot be opened: " + std::strerror(errno));
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(value_); }
  int get() const { return value_; }

 private:
  int value_;
};

// Which file, and which state of it: a file that was replaced or rewritten is another one.
using Identity = std::tuple<dev_t, ino_t, off_t, time_t, long>;

struct Mappings {
  std::mutex mutex;
  std::map<Identity, std::weak_ptr<const SafetensorsFile>> files;
};

Mappings& mappings() {
  static auto* const all = new Mappings;  // never destroyed: job threads may outlive static destruction
  return *all;
}

}  // namespace

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  Descriptor descriptor(path);
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode))
    corrupt(path, "it is not a regular file");

  Identity identity{status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec,
                    status.st_mtim.tv_nsec};
  Mappings& all = mappings();
  std::lock_guard lock(all.mutex);
  std::erase_if(all.files, [](const auto& item) { return item.second.expired(); });
  if (auto found = all.files.find(identity); found != all.files.end()) {
    if (auto file = found->second.lock()) return file;
  }
  std::shared_ptr<const SafetensorsFile> file(
      new SafetensorsFile(path, descriptor.get(), static_cast<size_t>(status.st_size)));
  all.files[identity] = file;
  return file;
}

SafetensorsFile::SafetensorsFile(std::string path, int descriptor, size_t size)
    : path_(std::move(path)), size_(size) {
  uint64_t header = 0;
  if (size < sizeof header) corrupt(path_, "it has only " + std::to_string(size) + " bytes");
  if (::pread(descriptor, &header, sizeof header, 0) != sizeof header)
    corrupt(path_, "its header cannot be read");
  if (std::memcmp(&header, "version ", sizeof header) == 0) {
    corrupt(path_, "it is a Git LFS pointer; fetch the weights themselves with `git lfs pull`");
  }
  if (header > max_header) corrupt(path_, "its header claims " + std::to_string(header) + " bytes");
  if (header > size - sizeof header) corrupt(path_, "it ends inside its header");

  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapping == MAP_FAILED)
    throw Error("ERR_OUT_OF_MEMORY", path_ + " cannot be mapped: " + std::strerror(errno));
  mapping_ = mapping;
  const char* bytes = static_cast<const char*>(mapping_) + sizeof header;
  payload_ = bytes + header;
  try {
    entries_ = parse_safetensors_header({bytes, header}, size - sizeof header - header, path_);
  } catch (...) {
    ::munmap(mapping_, size_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { ::munmap(mapping_, size_); }

at::Tensor mapped_tensor(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name) {
  const TensorEntry& entry = file->entries_.at(name);
  char* data =
      const_cast<char*>(file->payload_) + entry.begin;  // the pages are PROT_READ: a write would fault
  at::Tensor tensor = at::from_blob(
      data, entry.shape, [file](void*) {}, at::TensorOptions().dtype(entry.dtype));
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.dtype) == 0) return tensor;
  at::Tensor aligned = at::empty(entry.shape, entry.dtype);
  std::memcpy(aligned.mutable_data_ptr(), data, entry.end - entry.begin);
  return aligned;
}

}  // namespace torchreel
