// A GGUF file: its header, its tokenizer, its configuration, and rows of its tensors. An input that does not begin as
// such a file does describes one, a line for each thing in it, so that what is changed in it is a file's still:
//   KEY=TYPE:VALUE            a value of the metadata; an array of numbers or texts has TYPE 9/4 or 9/8, and commas
//   NAME@TYPE:EXTENTS:OFFSET  a tensor
//   #BYTES                    as many bytes of data, 512 unless it is said
#include "target.hpp"

#include <charconv>
#include <cstring>

#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/runtime/gguf_source.hpp>
#include <tessera/runtime/gguf_tokenizer.hpp>

using namespace tessera;

namespace {

/// What is before `mark`, which is taken off `text` with it; all of it where there is no mark.
std::string_view take(std::string_view& text, char mark) {
  const std::string_view part = text.substr(0, text.find(mark));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return part;
}

/// The number at the beginning of a text, or 0.
template <class T>
T number_of(std::string_view text) {
  T value{};
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// The bytes of a file that a text describes.
class DescribedFile {
 public:
  explicit DescribedFile(std::string_view text) {
    while (!text.empty()) {
      std::string_view line = take(text, '\n');
      if (line.starts_with('#')) {
        data_bytes_ = number_of<std::uint16_t>(line.substr(1));
      } else if (const std::size_t mark = line.find_first_of("=@"); mark != std::string_view::npos) {
        const bool is_tensor = line[mark] == '@';
        add_text(is_tensor ? tensors_ : values_, take(line, line[mark]));
        is_tensor ? add_tensor(line) : add_value(line);
      }
    }
  }

  [[nodiscard]] std::string bytes() const {
    std::string file = "GGUF";
    add(file, std::uint32_t{3});
    add(file, tensor_count_);
    add(file, value_count_);
    file += values_ + tensors_;
    file.resize((file.size() + 31) / 32 * 32);
    return file.append(data_bytes_, '\x3F');
  }

 private:
  template <class T>
  static void add(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void add_text(std::string& to, std::string_view text) {
    add(to, std::uint64_t{text.size()});
    to += text;
  }
  static void add_one(std::string& to, std::uint32_t type, std::string_view text) {
    if (type == 8) return add_text(to, text);
    detail::with_gguf_number(type, [&]<class T>(T) {
      if constexpr (std::is_same_v<T, bool>)
        add(to, number_of<std::uint8_t>(text));
      else
        add(to, number_of<T>(text));
    });
  }

  void add_value(std::string_view text) {
    ++value_count_;
    const auto type = number_of<std::uint32_t>(text);
    std::string_view kinds = take(text, ':');
    add(values_, type);
    if (type != 9) return add_one(values_, type, text);
    take(kinds, '/');
    const auto inner = number_of<std::uint32_t>(kinds);
    std::uint64_t count = 0;
    std::string all;
    for (; !text.empty(); ++count) add_one(all, inner, take(text, ','));
    add(values_, inner);
    add(values_, count);
    values_ += all;
  }

  void add_tensor(std::string_view text) {
    ++tensor_count_;
    const auto type = number_of<std::uint32_t>(take(text, ':'));
    std::string_view extents = take(text, ':');
    std::uint32_t count = 0;
    std::string all;
    for (; !extents.empty(); ++count) add(all, number_of<std::uint64_t>(take(extents, ',')));
    add(tensors_, count);
    tensors_ += all;
    add(tensors_, type);
    add(tensors_, number_of<std::uint64_t>(text));
  }

  std::string values_, tensors_;
  std::uint64_t value_count_ = 0, tensor_count_ = 0;
  std::uint16_t data_bytes_ = 512;
};

void read_rows(const Gguf& file) {
  const ModelConfig config = gguf_config(file);
  if (config.layers > 4 || config.hidden > 4096) return;  // the header is what lies; rows of thousands take long
  const GgufSource source(file, config);
  for (const TensorSpec& tensor : checkpoint_tensors(config, StoredType::f32)) {
    (void)source.stored_as(tensor);
    const auto [rows, cols] = rows_and_cols(tensor);
    if (cols > 4096) continue;
    std::vector<float> row(static_cast<std::size_t>(cols));
    source.read(tensor, {0, 1}, row.data());
    source.read(tensor, {rows - 1, rows}, row.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::MemoryFile input;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  input.write(text.starts_with("GGUF") ? std::string(text) : DescribedFile(text).bytes());
  fuzz::parse([] {
    const Gguf file(input.path());
    for (const auto& [name, tensor] : file.tensors())
      fuzz::expect(0 <= tensor.offset && tensor.cols() > 0, "a tensor has a place and a size");
    fuzz::parse([&] { (void)gguf_tokenizer_json(file); });
    fuzz::parse([&] { read_rows(file); });
  });
  return 0;
}
