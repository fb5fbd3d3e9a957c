#include <algorithm>
#include <chrono>
#include <random>
#include <tessera/text/merge_table.hpp>

#include "catch.hpp"

using namespace tessera;
using text::MergeTable;

namespace {

/// The definition, one merge at a time: the pair of lowest rank, the leftmost of equals.
std::vector<token_t> merged_by_definition(const MergeTable& table, std::vector<token_t> symbols) {
  for (;;) {
    std::size_t best = symbols.size();
    MergeTable::Merge merge;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const MergeTable::Merge candidate = table.find(symbols[i], symbols[i + 1]);
      if (candidate.rank < merge.rank) best = i, merge = candidate;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = merge.result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

/// Merges over the texts of `alphabet` letters, each of two texts that are known before it; as training makes them.
MergeTable random_merges(std::mt19937& random, int alphabet, int merges) {
  std::vector<std::string> texts;
  for (int i = 0; i < alphabet; ++i) texts.emplace_back(1, static_cast<char>('a' + i));
  MergeTable table;
  for (int rank = 0; rank < merges; ++rank) {
    const auto pick = [&] { return static_cast<token_t>(random() % texts.size()); };
    const token_t left = pick(), right = pick();
    const std::string whole = texts[static_cast<std::size_t>(left)] + texts[static_cast<std::size_t>(right)];
    auto known = std::find(texts.begin(), texts.end(), whole);
    const auto result = static_cast<token_t>(known - texts.begin());
    if (known == texts.end()) texts.push_back(whole);
    table.add(left, right, {rank, result});
  }
  return table;
}

}  // namespace

TEST_CASE("merging equals the definition, for words and for pieces long enough for the heap") {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    const int alphabet = 1 + static_cast<int>(random() % 4);
    const MergeTable table = random_merges(random, alphabet, 1 + static_cast<int>(random() % 60));
    for (const std::size_t length : {0, 1, 2, 5, 31, 32, 33, 34, 100, 300}) {
      std::vector<token_t> symbols = {-7};  // what stands before `first` stays
      for (std::size_t i = 0; i < length; ++i)
        symbols.push_back(static_cast<token_t>(random() % static_cast<unsigned>(alphabet)));
      const std::vector<token_t> expected = merged_by_definition(table, {symbols.begin() + 1, symbols.end()});
      table.apply(symbols, 1);
      REQUIRE(symbols.front() == -7);
      REQUIRE(std::vector<token_t>(symbols.begin() + 1, symbols.end()) == expected);
    }
  }
}

TEST_CASE("a million symbols in one piece take no quadratic time") {
  MergeTable table;
  for (token_t i = 0; i < 20; ++i) table.add(i, i, {i, i + 1});
  std::vector<token_t> symbols(1 << 20, 0);
  const auto start = std::chrono::steady_clock::now();
  table.apply(symbols, 0);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(symbols == std::vector<token_t>{20});
  CHECK(seconds.count() < 20);  // n^2 would be an hour
}

TEST_CASE("a pair that is given twice has its later rank") {
  MergeTable table;
  table.add(1, 2, {0, 3});
  table.add(1, 2, {5, 4});
  CHECK(table.find(1, 2).rank == 5);
  CHECK(table.find(1, 2).result == 4);
  CHECK(table.find(2, 1).rank == MergeTable::none);
}
