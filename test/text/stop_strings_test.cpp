// Stop strings, however a text is cut into pieces.

#include "catch.hpp"

#include <random>

#include <tessera/text/stop_strings.hpp>

using namespace tessera;

TEST_CASE("nothing of a stop string is shown, and nothing after it") {
  StopStrings stops({"</end>"});
  CHECK(stops.push("a <") == "a ");
  CHECK(stops.push("/e") == "");
  CHECK(stops.push("n") == "");
  CHECK_FALSE(stops.found());
  CHECK(stops.push("d> b") == "");
  CHECK(stops.found());
  CHECK(stops.push("c") == "");
  CHECK(stops.flush() == "");
}

TEST_CASE("a beginning that does not become a stop string is shown late, and whole") {
  StopStrings stops({"aab"});
  CHECK(stops.push("xaa") == "x");
  CHECK(stops.push("aa") == "aa");
  CHECK(stops.push("c") == "aac");
  CHECK(stops.push("a") == "");
  CHECK(stops.flush() == "a");
}

TEST_CASE("the stop string that begins first ends the text") {
  StopStrings stops({"cd", "bcde", "zzz"});
  CHECK(stops.push("abcdef") == "a");
}

TEST_CASE("the pieces in which a text comes do not matter") {
  std::mt19937 random(5);
  for (int n = 0; n < 2000; ++n) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += "abc"[random() % 3];
    const std::vector<std::string> stops = {"abca", "ccc", "bb", "cab"};
    std::size_t end = text.size();
    for (const std::string& stop : stops) end = std::min(end, text.find(stop));
    StopStrings found(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 5;
      shown += found.push(std::string_view(text).substr(at, size));
      at += size;
    }
    shown += found.flush();
    REQUIRE(shown == text.substr(0, end));
    REQUIRE(found.found() == (end < text.size()));
  }
}

TEST_CASE("without stop strings all text passes at once, and an empty one is refused") {
  StopStrings none;
  CHECK(none.push("text") == "text");
  CHECK_THROWS_WITH(StopStrings({""}), Catch::Contains("found an empty one"));
}
