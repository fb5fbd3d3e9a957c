#pragma once
// A folder of a test's own, and the two ways in which tests make files that no sound program would write.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <tessera/core/error.hpp>

namespace test {

namespace fs = std::filesystem;

/// Removed with its contents at the end of the scope.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (fs::temp_directory_path() / "tessera-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) tessera::fail("cannot make a folder like ", pattern);
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code unused;
    fs::remove_all(path_, unused);
  }
  [[nodiscard]] const fs::path& path() const { return path_; }
  friend fs::path operator/(const TempFolder& folder, std::string_view name) { return folder.path_ / name; }

 private:
  fs::path path_;
};

inline void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of a safetensors file with this header, whatever it says, and `data_bytes` bytes of data.
inline std::string safetensors_bytes(std::string_view header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += header;
  for (std::size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i * 37);
  return bytes;
}

/// The text of the Error that `f` ends in; empty if it ends in none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const tessera::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace test
