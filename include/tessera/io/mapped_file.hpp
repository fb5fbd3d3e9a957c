#pragma once
// A file mapped into memory, read-only: weights are used where they lie, and the ranks of a machine share the pages.
//
// A page of a mapping that the file no longer reaches raises SIGBUS when it is read. Three things stand against that:
// what is parsed is copied out by read() first; populate() and check_unchanged() turn a shrunk file into an Error
// where a program asks; and a program installs io/bus_error.hpp for the moments between.

#include <sys/mman.h>

#include <cstddef>
#include <memory>

#include <tessera/core/open_file.hpp>
#include <tessera/core/partition.hpp>
#include <tessera/io/mapping_table.hpp>

namespace tessera {

/// The bytes of a regular file, mapped shared and read-only for as long as this object lives. Moves, no copy.
class MappedFile {
 public:
  /// Throws Error with the path if the file cannot be opened, is empty or not a regular file, or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path) : file_(std::make_unique<const OpenFile>(path)) {
    require(size() > 0, file_->path(), ": the file is empty");
    const auto bytes = static_cast<std::size_t>(size());
    void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file_->descriptor(), 0);
    require(memory != MAP_FAILED, file_->path(), ": cannot map ", size(), " bytes: ", errno_text(errno));
    data_ = static_cast<const std::byte*>(memory);
    slot_ = detail::enter_mapping(data_, bytes, file_->path().c_str());
  }
  MappedFile(MappedFile&& other) noexcept
      : file_(std::move(other.file_)),
        data_(std::exchange(other.data_, nullptr)),
        slot_(std::exchange(other.slot_, nullptr)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(data_, other.data_);
    std::swap(slot_, other.slot_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    detail::leave_mapping(slot_);
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<std::size_t>(size()));
  }

  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] index_t size() const { return file_->size(); }
  [[nodiscard]] const std::string& path() const { return file_->path(); }
  [[nodiscard]] bool contains(const void* address) const {
    const auto* at = static_cast<const std::byte*>(address);
    return data_ <= at && at < data_ + size();
  }

  /// Copies bytes of the file without touching the mapping. Throws Error if the file has become too short for them.
  void read(index_t offset, void* to, index_t count) const { file_->read(offset, to, count); }

  /// Throws Error if the file was written to, removed or replaced since it was mapped.
  void check_unchanged() const { file_->check_unchanged(); }

  /// Has the pages of a byte range read ahead in the background.
  void advise_needed(Range bytes) const { advise(bytes, MADV_WILLNEED); }

  /// Reads the pages of a byte range into memory before it returns. Throws Error if the file no longer reaches them.
  void populate(Range bytes) const {
    const int error = advise(bytes, populate_read);
    if (error == EINVAL) {  // a kernel before 5.14
      advise(bytes, MADV_WILLNEED);
      check_unchanged();
      return;
    }
    if (error == EFAULT) check_unchanged();
    require(error == 0, path(), ": cannot read bytes ", bytes.begin, " to ", bytes.end, ": ", errno_text(error));
  }

 private:
#ifdef MADV_POPULATE_READ
  static constexpr int populate_read = MADV_POPULATE_READ;
#else
  static constexpr int populate_read = 22;  // include/uapi/asm-generic/mman-common.h of Linux 5.14
#endif

  /// Returns 0 or an errno. `bytes` is cut to the file and widened to whole pages.
  int advise(Range bytes, int advice) const {
    const index_t page = ::sysconf(_SC_PAGESIZE);
    bytes = intersect(bytes, {0, size()});
    if (bytes.empty()) return 0;
    const index_t begin = bytes.begin / page * page;
    void* from = const_cast<std::byte*>(data_ + begin);
    int result = 0;
    do result = ::madvise(from, static_cast<std::size_t>(bytes.end - begin), advice);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
  }

  std::unique_ptr<const OpenFile> file_;  // on the heap: the mapping table keeps a pointer to the path
  const std::byte* data_ = nullptr;
  detail::MappingSlot* slot_ = nullptr;
};

}  // namespace tessera
