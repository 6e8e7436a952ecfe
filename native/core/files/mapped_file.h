// A file's bytes, mapped read-only, or read into memory where the file system cannot map. When a mapped file
// is rewritten, its readers see other numbers, and when it gets shorter, a read of the lost pages raises
// SIGBUS, which would end the process. Here such pages read as zeros, and `check` reports the change.
#pragma once

#include <sys/stat.h>

#include <string>
#include <tuple>

namespace torchreel {

class MappedFile {
 public:
  // Identifies the file and its state.
  using Identity = std::tuple<dev_t, ino_t, off_t, time_t, long>;

  // Throws ERR_MODEL_NOT_FOUND if it cannot be opened, ERR_MODEL_CORRUPT if it is not a regular file.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Maps the bytes, or reads them where the file system cannot map. Before that only `read` works. Throws
  // ERR_OUT_OF_MEMORY, ERR_MODEL_NOT_FOUND if reading fails.
  void map();

  // Why the bytes were read instead of mapped; empty: they are mapped.
  const std::string& not_mapped() const { return not_mapped_; }

  const std::string& path() const { return path_; }
  const Identity& identity() const { return identity_; }
  size_t size() const { return static_cast<size_t>(std::get<2>(identity_)); }
  const char* data() const { return data_; }

  // Takes mapped pages out of this process' memory. A later read brings them back, in most cases from the
  // system's cache of files.
  void drop_pages() const;
  // The same for the pages of `count` bytes at `bytes`. Does nothing if they are not mapped from this file.
  void drop_pages(const void* bytes, size_t count) const;

  // Reads the first bytes by a system call. False if there are not so many.
  bool read(void* bytes, size_t count) const;

  // Throws ERR_MODEL_CORRUPT if the file has changed since it was opened.
  void check() const;

 private:
  void read_all();

  std::string path_;
  int descriptor_;
  Identity identity_;
  const char* data_ = nullptr;
  std::string not_mapped_;
};

}  // namespace torchreel
