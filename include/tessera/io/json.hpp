#pragma once
// JSON that is written. What is read comes from json_parser.hpp, which trusts nobody.

#include <nlohmann/json.hpp>

namespace tessera {

/// A JSON value under construction.
using Json = nlohmann::json;

}  // namespace tessera
