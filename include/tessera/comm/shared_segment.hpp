#pragma once
// Memory that processes of one machine share, and words in it on which they can sleep. Nothing of it has a name in a
// file system: the kernel frees it with the last process, however that ended.

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <string>
#include <utility>

#include <tessera/comm/await.hpp>

namespace tessera {

/// A memfd, mapped. One process creates it; others open it through that process's /proc entry while it is alive.
class SharedSegment {
 public:
  SharedSegment() = default;
  explicit SharedSegment(std::size_t bytes) {
    file_ = ::memfd_create("tessera", MFD_CLOEXEC);
    require(file_ >= 0, "shared memory: memfd_create: ", std::strerror(errno));
    if (::ftruncate(file_, static_cast<off_t>(bytes)) != 0) {
      const int error = errno;
      close_file();
      fail("shared memory of ", bytes, " bytes: ", std::strerror(error));
    }
    map(bytes);
  }
  SharedSegment(pid_t process, int file, std::size_t bytes) {
    const std::string path = concat("/proc/", process, "/fd/", file);
    file_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    require(file_ >= 0, "shared memory: ", path, ": ", std::strerror(errno));
    struct stat found {};
    if (::fstat(file_, &found) != 0 || static_cast<std::size_t>(found.st_size) != bytes) {
      close_file();
      fail("shared memory: ", path, ": expected ", bytes, " bytes, found ", found.st_size);
    }
    map(bytes);
  }
  SharedSegment(SharedSegment&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        file_(std::exchange(other.file_, -1)) {}
  SharedSegment& operator=(SharedSegment&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    std::swap(file_, other.file_);
    return *this;
  }
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;
  ~SharedSegment() {
    close_file();
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_); }
  [[nodiscard]] int file() const { return file_; }
  /// The mapping stays; nobody else can open it any more.
  void close_file() {
    if (file_ >= 0) ::close(std::exchange(file_, -1));
  }

 private:
  void map(std::size_t bytes) {
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (memory_ == MAP_FAILED) {
      memory_ = nullptr;
      const int error = errno;
      close_file();
      fail("shared memory of ", bytes, " bytes: mmap: ", std::strerror(error));
    }
    bytes_ = bytes;
  }

  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  int file_ = -1;
};

/// A counter in shared memory that one process raises and others wait for; they may sleep.
struct alignas(64) SharedCounter {
  std::atomic<std::uint32_t> value;
  std::atomic<std::uint32_t> sleepers;
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free && sizeof(std::atomic<std::uint32_t>) == 4);

  /// Whether the counter has come to `goal`; right across the wrap-around while they are less than 2^31 apart.
  [[nodiscard]] bool reached(std::uint32_t goal) const {
    return static_cast<std::int32_t>(value.load(std::memory_order_acquire) - goal) >= 0;
  }

  /// What was written before is visible to whoever sees the raised value.
  void raise() {
    // Sequentially consistent against sleep_until: either the sleeper sees the value, or we see the sleeper.
    value.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) != 0) futex(FUTEX_WAKE, INT_MAX, nullptr);
  }

  /// Returns when `goal` may have been reached, at the latest at `until`; the caller looks again.
  void sleep_until(std::uint32_t goal, WaitClock::time_point until) {
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = value.load(std::memory_order_seq_cst);
    if (static_cast<std::int32_t>(seen - goal) < 0) {
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(until - WaitClock::now()).count();
      const timespec timeout{static_cast<time_t>(std::max<long>(left, 0) / 1'000'000'000),
                             std::max<long>(left, 0) % 1'000'000'000};
      futex(FUTEX_WAIT, seen, &timeout);  // returns at once when the value is no longer `seen`
    }
    sleepers.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  void futex(int operation, std::uint32_t number, const timespec* timeout) {
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&value), operation, number, timeout, nullptr, 0);
  }
};

}  // namespace tessera
