// `tessera tokenize`, from a line on standard input to a line on standard output.
#include <iostream>
#include <sstream>
#include <tessera/text/tokenizer.hpp>

#include "../../tools/tessera/commands.hpp"
#include "catch.hpp"
#include "golden.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;

namespace {

/// Runs the subcommand on `input` and gives what it writes; faults come out as they do for the program.
std::string run(std::vector<std::string> arguments, const std::string& input) {
  CLI::App app{"tessera"};
  tools::add_tokenize(app);
  std::istringstream in(input);
  std::ostringstream out;
  struct Redirect {
    std::streambuf *in, *out;
    ~Redirect() { std::cin.rdbuf(in), std::cout.rdbuf(out), std::cin.clear(); }
  } redirect{std::cin.rdbuf(in.rdbuf()), std::cout.rdbuf(out.rdbuf())};
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes a vector
  app.parse(arguments);
  return out.str();
}

std::vector<std::string> arguments(const std::vector<std::string>& flags) {
  std::vector<std::string> out = {"tokenize", "--model", (golden::folder("tokenizers") / "llama3").string()};
  out.insert(out.end(), flags.begin(), flags.end());
  return out;
}

}  // namespace

TEST_CASE("the command turns every golden text into its ids, and the ids into their text") {
  std::string texts, ids, bare, decoded;
  for (const golden::Case& c : golden::cases(golden::folder("tokenizers") / "llama3")) {
    texts += nlohmann::json(c.text).dump() + "\n";
    ids += nlohmann::json(c.ids).dump() + "\n";
    bare += nlohmann::json(c.ids_no_special).dump() + "\n";
    decoded += nlohmann::json(c.decoded).dump() + "\n";
  }
  CHECK(run(arguments({}), texts) == ids);
  CHECK(run(arguments({"--no-special"}), texts) == bare);
  CHECK(run(arguments({"--decode"}), bare) == decoded);
  CHECK(run(arguments({"--decode", "--no-special"}), "[3000,3001]\n") == "\"\"\n");
  CHECK(run(arguments({}), "").empty());
}

TEST_CASE("a text with line separators stays on one line") {
  const std::string line = "\"a\\u2028b\\u2029c\\u0085d\\ne\"\n";
  CHECK(run(arguments({"--decode"}), run(arguments({"--no-special"}), line)) == line);
}

TEST_CASE("a conversation becomes the text of its template") {
  const test::TempFolder folder;
  std::filesystem::copy_file(golden::folder("chat") / "chatml.jinja", folder / "chat_template.jinja");
  const std::vector<std::string> render = {"tokenize", "--model", folder.path().string(), "--render"};
  CHECK(run(render, R"([{"role":"user","content":"Hi"}])"
                    "\n") == R"("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")"
                             "\n");
  for (const std::string bad : {"{}", "[1]", R"([{"role":"user"}])", R"([{"role":"king","content":"x"}])", "[]"}) {
    INFO(bad);
    CHECK_THROWS_AS(run(render, bad + "\n"), Error);
  }
}

TEST_CASE("a bad line is refused by its number, after the answers to the lines before") {
  for (const std::string bad : {"", "x", "[1]", "\"open", "\"\xFF\"", "{}"}) {
    INFO(bad);
    CHECK_THROWS_WITH(run(arguments({}), "\"fine\"\n" + bad + "\n"), Catch::Contains("standard input, line 2"));
  }
  for (const std::string bad : {"\"text\"", "[-1]", "[1.5]", "[3005]", "[\"a\"]"}) {
    INFO(bad);
    CHECK_THROWS_WITH(run(arguments({"--decode"}), bad), Catch::Contains("standard input, line 1"));
  }
  CHECK_THROWS_AS(run({"tokenize"}, ""), CLI::RequiredError);
}
