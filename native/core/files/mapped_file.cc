#include "files/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "process/error.h"

namespace torchreel {
namespace {

// The mapped addresses, as a list that a signal handler may walk: spans are added and reused, never freed.
struct Span {
  std::atomic<uintptr_t> begin{0}, end{0};  // end 0: free
  Span* next = nullptr;
};

std::atomic<Span*> spans{nullptr};
struct sigaction before;
uintptr_t page_size;

// Replaces a lost page of a mapped file by zeros. Passes any other fault to the handler before this one.
void on_bus_error(int signal, siginfo_t* information, void* context) {
  auto address = reinterpret_cast<uintptr_t>(information->si_addr);
  for (Span* span = spans; span; span = span->next) {
    if (address < span->begin || address >= span->end) continue;
    void* page = reinterpret_cast<void*>(address & ~(page_size - 1));
    void* zeros = ::mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros != MAP_FAILED) return;
  }
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, information, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    ::sigaction(signal, &before, nullptr);  // the instruction faults again
  }
}

std::mutex& spans_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

void watch(const char* data, size_t size) {
  std::lock_guard lock(spans_mutex());
  if (!page_size) {
    page_size = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction ours {};
    ours.sa_sigaction = on_bus_error;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(SIGBUS, &ours, &before);
  }
  Span* span = spans;
  while (span && span->end != 0) span = span->next;
  if (!span) {
    span = new Span;
    span->next = spans;
    spans = span;
  }
  span->begin = reinterpret_cast<uintptr_t>(data);
  span->end = reinterpret_cast<uintptr_t>(data) + size;
}

void unwatch(const char* data) {
  std::lock_guard lock(spans_mutex());
  for (Span* span = spans; span; span = span->next) {
    if (span->end != 0 && span->begin == reinterpret_cast<uintptr_t>(data)) span->end = 0;
  }
}

}  // namespace

MappedFile::MappedFile(const std::string& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0)
    throw Error("ERR_MODEL_NOT_FOUND", path + " cannot be opened: " + std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error("ERR_MODEL_CORRUPT", path + " is no valid safetensors file: it is not a regular file");
  }
  identity_ = {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

MappedFile::~MappedFile() {
  if (data_) {
    if (not_mapped_.empty()) unwatch(data_);
    ::munmap(const_cast<char*>(data_), size());
  }
  ::close(descriptor_);
}

void MappedFile::map() {
  void* mapping = ::mmap(nullptr, size(), PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (mapping == MAP_FAILED) {
    if (errno == ENOMEM)
      throw Error("ERR_OUT_OF_MEMORY", path_ + " cannot be mapped: " + std::strerror(errno));
    // ENODEV, ENOTSUP, EPERM … of some network, container and FUSE file systems
    not_mapped_ = std::strerror(errno);
    read_all();
    return;
  }
  data_ = static_cast<const char*>(mapping);
  watch(data_, size());
}

void MappedFile::read_all() {
  void* memory = ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error("ERR_OUT_OF_MEMORY", path_ + " cannot be mapped (" + not_mapped_ +
                                         "), and there is no memory to read it: " + std::strerror(errno));
  data_ = static_cast<const char*>(memory);
  for (size_t at = 0; at < size();) {
    ssize_t count =
        ::pread(descriptor_, static_cast<char*>(memory) + at, size() - at, static_cast<off_t>(at));
    if (count > 0) {
      at += static_cast<size_t>(count);
    } else if (count == 0 || errno != EINTR) {
      std::string reason = count == 0 ? "it has become shorter" : std::strerror(errno);
      ::munmap(memory, size());
      data_ = nullptr;
      throw Error("ERR_MODEL_NOT_FOUND", path_ + " cannot be read: " + reason);
    }
  }
  ::mprotect(memory, size(), PROT_READ);
}

void MappedFile::drop_pages() const { drop_pages(data_, size()); }

// Mapped pages were never written, so nothing is lost. Zeros in place of lost pages stay zeros.
void MappedFile::drop_pages(const void* bytes, size_t count) const {
  auto address = static_cast<const char*>(bytes);
  if (!not_mapped_.empty() || address < data_ || address + count > data_ + size()) return;
  size_t from_page = reinterpret_cast<uintptr_t>(address) & (page_size - 1);
  ::madvise(const_cast<char*>(address - from_page), count + from_page, MADV_DONTNEED);
}

bool MappedFile::read(void* bytes, size_t count) const {
  return ::pread(descriptor_, bytes, count, 0) == static_cast<ssize_t>(count);
}

void MappedFile::check() const {
  struct stat now {};
  bool same =
      ::fstat(descriptor_, &now) == 0 &&
      identity_ == Identity{now.st_dev, now.st_ino, now.st_size, now.st_mtim.tv_sec, now.st_mtim.tv_nsec};
  if (same) return;
  throw Error("ERR_MODEL_CORRUPT",
              path_ +
                  " was rewritten while it was open; open the model again. To replace a file that is in use, "
                  "rename the new one over it");
}

}  // namespace torchreel
