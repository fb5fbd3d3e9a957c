#include "program/golden.hpp"

#include <algorithm>
#include <cstring>

namespace tessera::program {

namespace {

const TensorInfo& tensor_of(const Safetensors& file, std::string_view name, StoredType dtype, std::size_t dimensions) {
  for (const TensorInfo& tensor : file.tensors())
    if (tensor.name == name) {
      require(tensor.dtype == dtype && tensor.shape.size() == dimensions, file.file().path(), ": ", name, ": expected ",
              dimensions, " dimensions of ", name_of(dtype), ", found ", tensor.shape.size(), " of ",
              name_of(tensor.dtype));
      return tensor;
    }
  fail(file.file().path(), ": expected a tensor ", name, ", found none; make one with test/golden/make_golden.py");
}

template <class T>
std::vector<T> values_of(const TensorInfo& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.bytes) / sizeof(T));
  std::memcpy(values.data(), tensor.data, values.size() * sizeof(T));
  return values;
}

std::vector<token_t> ids_of(const TensorInfo& tensor) {
  const auto wide = values_of<std::int64_t>(tensor);
  return {wide.begin(), wide.end()};
}

}  // namespace

std::vector<std::filesystem::path> golden_folders(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code unused;
  if (std::filesystem::exists(folder / "golden.safetensors", unused)) found.push_back(folder);
  if (found.empty() && std::filesystem::is_directory(folder, unused))
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (std::filesystem::exists(entry.path() / "golden.safetensors", unused)) found.push_back(entry.path());
  require(
      !found.empty(), folder.string(),
      ": expected golden.safetensors in it or in its folders, found none; test/golden/README.md says how to make one");
  std::sort(found.begin(), found.end());
  return found;
}

Golden load_golden(const std::filesystem::path& folder) {
  Golden golden;
  golden.name = folder.filename().empty() ? folder.parent_path().filename().string() : folder.filename().string();
  golden.config = read_config(folder);
  golden.weights = load_weights(Checkpoint::open(folder), golden.config);
  const Safetensors expected(folder / "golden.safetensors");
  golden.prompt = ids_of(tensor_of(expected, "input_ids", StoredType::i64, 1));
  golden.greedy = ids_of(tensor_of(expected, "greedy_ids", StoredType::i64, 1));
  const TensorInfo& logits = tensor_of(expected, "logits", StoredType::f32, 2);
  require(logits.shape[0] == static_cast<index_t>(golden.prompt.size()) && logits.shape[1] == golden.config.vocab,
          expected.file().path(), ": logits: expected [", golden.prompt.size(), ", ", golden.config.vocab, "], found [",
          logits.shape[0], ", ", logits.shape[1], "]");
  golden.logits = values_of<float>(logits);
  return golden;
}

double row_deviation(const float* row, index_t n) {
  double mean = 0;
  double squares = 0;
  for (index_t i = 0; i < n; ++i) mean += row[i];
  mean /= static_cast<double>(n);
  for (index_t i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
  return std::sqrt(squares / static_cast<double>(n));
}

void add_errors(const float* found, const float* expected, index_t rows, index_t vocab, Outcome& outcome) {
  for (index_t r = 0; r < rows; ++r) {
    const double deviation = row_deviation(expected + r * vocab, vocab);
    for (index_t i = 0; i < vocab; ++i) {
      double error = std::abs(static_cast<double>(found[r * vocab + i]) - expected[r * vocab + i]) / deviation;
      if (std::isnan(error)) error = INFINITY;
      outcome.worst = std::max(outcome.worst, error);
      outcome.squares += error * error;
    }
  }
  outcome.logits += rows * vocab;
}

double top_gap(const float* row, index_t n) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  double best = none, next = none;
  for (index_t i = 0; i < n; ++i) {
    next = std::max(next, std::min<double>(best, row[i]));
    best = std::max<double>(best, row[i]);
  }
  return (best - next) / row_deviation(row, n);
}

}  // namespace tessera::program
