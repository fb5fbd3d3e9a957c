#pragma once
// A tensor as a file stores it: element type, shape and where its bytes lie.

#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/types.hpp>

namespace tessera {

// clang-format off
/// Element types that a safetensors file may hold; the kernels read three of them in place (DType).
enum class StoredType : std::uint8_t {
  f64, f32, f16, bf16, f8_e4m3, f8_e5m2, f8_e8m0, c64, i64, i32, i16, i8, u64, u32, u16, u8, boolean
};
// clang-format on

namespace detail {

struct StoredTypeRow {
  StoredType type;
  std::string_view name;  // as the header spells it
  index_t bytes;
};

inline constexpr std::array<StoredTypeRow, 17> stored_types = {{
    {StoredType::f64, "F64", 8},
    {StoredType::f32, "F32", 4},
    {StoredType::f16, "F16", 2},
    {StoredType::bf16, "BF16", 2},
    {StoredType::f8_e4m3, "F8_E4M3", 1},
    {StoredType::f8_e5m2, "F8_E5M2", 1},
    {StoredType::f8_e8m0, "F8_E8M0", 1},
    {StoredType::c64, "C64", 8},
    {StoredType::i64, "I64", 8},
    {StoredType::i32, "I32", 4},
    {StoredType::i16, "I16", 2},
    {StoredType::i8, "I8", 1},
    {StoredType::u64, "U64", 8},
    {StoredType::u32, "U32", 4},
    {StoredType::u16, "U16", 2},
    {StoredType::u8, "U8", 1},
    {StoredType::boolean, "BOOL", 1},
}};

consteval bool stored_types_in_order() {
  for (std::size_t i = 0; i < stored_types.size(); ++i)
    if (static_cast<std::size_t>(stored_types[i].type) != i) return false;
  return true;
}
static_assert(stored_types_in_order(), "stored_types is indexed by StoredType");

}  // namespace detail

/// Of one element.
[[nodiscard]] constexpr index_t bytes_of(StoredType type) {
  return detail::stored_types[static_cast<std::size_t>(type)].bytes;
}

/// The name that a safetensors header uses.
[[nodiscard]] constexpr std::string_view name_of(StoredType type) {
  return detail::stored_types[static_cast<std::size_t>(type)].name;
}

/// The type that a header spells so, if it is one.
[[nodiscard]] constexpr std::optional<StoredType> stored_type_named(std::string_view name) {
  for (const auto& row : detail::stored_types)
    if (row.name == name) return row.type;
  return std::nullopt;
}

/// The type that the kernels read, where they can.
[[nodiscard]] constexpr std::optional<DType> kernel_type(StoredType type) {
  switch (type) {
    case StoredType::f32: return DType::f32;
    case StoredType::bf16: return DType::bf16;
    case StoredType::f16: return DType::f16;
    default: return std::nullopt;
  }
}

/// How a file stores what the kernels read.
[[nodiscard]] constexpr StoredType stored_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return StoredType::f32;
    case DType::bf16: return StoredType::bf16;
    case DType::f16: break;
    case DType::int8_blocks: return StoredType::i8;
    case DType::int4_blocks: return StoredType::u8;
  }
  return StoredType::f16;
}

/// How a file stores elements of a C++ type.
template <class T>
inline constexpr StoredType stored_type_of = stored_type(dtype_of<T>);
/// As above.
template <>
inline constexpr StoredType stored_type_of<double> = StoredType::f64;
/// As above.
template <>
inline constexpr StoredType stored_type_of<std::int64_t> = StoredType::i64;
/// As above.
template <>
inline constexpr StoredType stored_type_of<std::int32_t> = StoredType::i32;
/// As above.
template <>
inline constexpr StoredType stored_type_of<std::uint8_t> = StoredType::u8;

/// A shape as people write it: [512, 1024].
[[nodiscard]] inline std::string shape_text(const std::vector<index_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += concat(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

/// A tensor that is to be written.
struct TensorSpec {
  std::string name;
  StoredType dtype = StoredType::f32;
  std::vector<index_t> shape;

  /// Throws Error if the size does not fit an index_t.
  [[nodiscard]] index_t bytes() const {
    index_t total = bytes_of(dtype);
    for (const index_t extent : shape)
      require(extent >= 0 && !__builtin_mul_overflow(total, extent, &total), name, ": impossible shape ",
              shape_text(shape));
    return total;
  }
};

/// A tensor in a mapped file. The bytes may lie at any address: read them with memcpy, or check the alignment first.
struct TensorInfo {
  std::string name;
  StoredType dtype = StoredType::f32;
  std::vector<index_t> shape;
  index_t offset = 0;  ///< of its first byte in the file
  index_t bytes = 0;
  const std::byte* data = nullptr;  ///< in the mapping of the file

  /// Whether pointers to its elements are properly aligned, as the kernels need it.
  [[nodiscard]] bool aligned() const {
    return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(bytes_of(dtype)) == 0;
  }
  [[nodiscard]] index_t elements() const { return bytes / bytes_of(dtype); }

  /// A copy of the elements. Throws Error unless they are stored as T.
  template <class T>
  [[nodiscard]] std::vector<T> values() const {
    require(dtype == stored_type_of<T>, name, ": expected ", name_of(stored_type_of<T>), ", file has ", name_of(dtype));
    std::vector<T> copy(static_cast<std::size_t>(elements()));
    if (bytes > 0) std::memcpy(copy.data(), data, static_cast<std::size_t>(bytes));
    return copy;
  }
};

}  // namespace tessera
