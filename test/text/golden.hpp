#pragma once
// The cases in test/golden/tokenizers: what the tokenizers library gave for each text.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <tessera/core/types.hpp>

#ifndef TESSERA_GOLDEN
#error "TESSERA_GOLDEN: expected the folder test/golden, as test/meson.build sets it"
#endif

namespace golden {

struct Case {
  std::string text;
  std::vector<tessera::token_t> ids;
  std::vector<tessera::token_t> ids_no_special;
  std::string decoded;
};

inline std::filesystem::path folder(const std::string& name) { return std::filesystem::path(TESSERA_GOLDEN) / name; }

inline nlohmann::json read_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(std::ifstream(path, std::ios::binary));
}

inline std::vector<Case> cases(const std::filesystem::path& tokenizer) {
  std::vector<Case> out;
  for (const auto& row : read_json(tokenizer / "cases.json")) {
    out.push_back({row.at("text"), row.at("ids"), row.at("ids_no_special"), row.at("decoded")});
  }
  return out;
}

}  // namespace golden
