// What reads JSON: the same texts as nlohmann's parser, with the same values; and its own refusals.
#include "catch.hpp"

#include <random>

#include <nlohmann/json.hpp>

#include <tessera/io/json_object.hpp>
#include <tessera/io/json_parser.hpp>
#include "temp_folder.hpp"

namespace {

using namespace tessera;
using Reference = nlohmann::json;

bool equal(const JsonValue& found, const Reference& expected) {
  if (const bool* flag = found.flag()) return expected.is_boolean() && *flag == expected.get<bool>();
  if (const std::string* text = found.string()) return expected.is_string() && *text == expected.get<std::string>();
  if (const JsonNumber* number = found.number())
    return expected.is_number() && std::stod(number->text) == expected.get<double>();
  if (const JsonValue::Array* items = found.array()) {
    if (!expected.is_array() || items->size() != expected.size()) return false;
    for (std::size_t i = 0; i < items->size(); ++i)
      if (!equal((*items)[i], expected[i])) return false;
    return true;
  }
  if (const JsonValue::Object* members = found.object()) {
    if (!expected.is_object() || members->size() != expected.size()) return false;
    for (const auto& [name, value] : *members)
      if (!expected.contains(name) || !equal(value, expected.at(name)) || found.find(name) != &value) return false;
    return true;
  }
  return expected.is_null();
}

/// Nothing where the parser agrees with nlohmann's on `text`; else what each made of it.
std::string disagreement(const std::string& text) {
  const Reference expected = Reference::parse(text, nullptr, false);
  std::string refusal;
  try {
    const JsonValue found = parse_json(text, "text");
    if (expected.is_discarded()) return text + ": nlohmann refuses it";
    return equal(found, expected) ? "" : text + ": another value";
  } catch (const Error& error) {
    refusal = error.what();
  }
  if (expected.is_discarded()) return refusal.find("text: not valid JSON") == 0 ? "" : text + ": " + refusal;
  // What it refuses though it is valid.
  return refusal.find("appears twice") != std::string::npos ? "" : text + ": " + refusal;
}

}  // namespace

TEST_CASE("JSON is read as by nlohmann's parser, whole or with any byte changed, cut or doubled") {
  const std::string whole =
      "{\"a\": [1, -2.5e+3, 0.125, 1E-2, -0, 18446744073709551615], \"b\\u00e9\\ud83d\\ude00\\n\\\"\\/\": {\"\": null},"
      " \"c\":\t[true, false, [], {}],\r\n \"d\": \"gr\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80\"}";
  CHECK(disagreement(whole).empty());
  CHECK(disagreement("\xEF\xBB\xBF" + whole).empty());
  const std::string bytes = std::string("{}[]\",:0189.-+eEtrufalsn\\/ u\n\x01") + "\xC0\xE0\xED\xA0\xF4\x90\x80\xBF";
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    for (const char byte : bytes) {
      changed[i] = byte;
      CHECK(disagreement(changed) == "");
    }
    CHECK(disagreement(whole.substr(0, i)) == "");
    CHECK(disagreement(whole.substr(0, i) + whole.substr(i + 1)) == "");
    CHECK(disagreement(whole.substr(0, i) + whole[i] + whole.substr(i)) == "");
  }
}

TEST_CASE("JSON of random pieces is read as by nlohmann's parser") {
  std::mt19937 draw(20);
  const std::vector<std::string> pieces = {
      "{",       "}",        "[",  "]",    ",",    ":", "\"a\"",       "\"b\"",       "1",
      "-0.5",    "1e3",      "01", "true", "null", " ", "\"\\u12aF\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
      "\"\\x\"", "\"\x7F\"", "+1", ".5",   "5.",   "-"};
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (unsigned n = draw() % 7; n < 7; ++n) text += pieces[draw() % pieces.size()];
    CHECK(disagreement(text) == "");
  }
}

TEST_CASE("a number keeps its digits until somebody says what it is to be") {
  const JsonValue json =
      parse_json(R"({"most":9223372036854775807,"more":9223372036854775808,"real":1.0,"ten":1e1})", "f");
  const JsonObject fields(json, "f");
  CHECK(fields.integer("most", 0, INT64_MAX) == INT64_MAX);
  CHECK(test::error_of([&] { (void)fields.integer("more", 0, INT64_MAX); }).ends_with("found 9223372036854775808"));
  CHECK(test::error_of([&] { (void)fields.integer("real", 0, 9); }) ==
        "f: real: expected a whole number from 0 to 9, found 1.0");
  CHECK(test::error_of([&] { (void)fields.integer("ten", 0, 99); }).ends_with("found 1e1"));
  CHECK(fields.number("ten") == 10.0);
}
