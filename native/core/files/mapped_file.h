// A file's bytes, mapped and read-only. A file that is rewritten while it is mapped changes beneath its
// readers, and pages that are cut off it raise SIGBUS, which would end the process: such pages read as zeros
// here, and `check` tells.
#pragma once

#include <sys/stat.h>

#include <string>
#include <tuple>

namespace torchreel {

class MappedFile {
 public:
  // Which file, and which state of it.
  using Identity = std::tuple<dev_t, ino_t, off_t, time_t, long>;

  // Throws ERR_MODEL_NOT_FOUND for what cannot be opened, ERR_MODEL_CORRUPT for what is no regular file.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Maps the bytes; until then only `read` gets any. Throws ERR_OUT_OF_MEMORY.
  void map();

  const std::string& path() const { return path_; }
  const Identity& identity() const { return identity_; }
  size_t size() const { return static_cast<size_t>(std::get<2>(identity_)); }
  const char* data() const { return data_; }

  // The pages leave this process' memory; whoever reads one again gets it back, in most cases from the
  // system's cache of files.
  void let_go() const;

  // The first bytes, by a system call; whether there are so many.
  bool read(void* bytes, size_t count) const;

  // Throws ERR_MODEL_CORRUPT if the file is no longer what was opened.
  void check() const;

 private:
  std::string path_;
  int descriptor_;
  Identity identity_;
  const char* data_ = nullptr;
};

}  // namespace torchreel
