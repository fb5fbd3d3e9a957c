#pragma once
// Regular expressions of tokenizer.json, matched by PCRE2: compiled once, Unicode throughout, bounded in time.

// pcre2.h demands a width. It is taken back, and the names below carry theirs, so that a program may choose its own.
#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 0
#include <pcre2.h>
#undef PCRE2_CODE_UNIT_WIDTH
#else
#include <pcre2.h>
#endif

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/text/unicode.hpp>

namespace tessera::text {

/// A half-open part of a text, in bytes, that a pattern matches or not.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool matches = false;
};

/// A compiled pattern; const use from several threads is safe.
class Regex {
 public:
  /// Compiles `pattern` (UTF-8); throws Error with PCRE2's own words, naming `where`.
  Regex(std::string_view pattern, std::string_view where) {
    require_utf8(pattern, where);
    const std::string translated = with_standard_white_space(pattern);
    std::unique_ptr<pcre2_compile_context_8, void (*)(pcre2_compile_context_8*)> context(
        pcre2_compile_context_create_8(nullptr), pcre2_compile_context_free_8);
    pcre2_set_newline_8(context.get(), PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit_8(context.get(), 100);
    int error = 0;
    PCRE2_SIZE offset = 0;
    // \C would cut a code point; in the syntax that the patterns come from (Oniguruma's) ^ and $ match at lines.
    code_.reset(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(translated.data()), translated.size(),
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                context.get()),
                pcre2_code_free_8);
    require(code_ != nullptr, where, ": expected a regular expression that PCRE2 can compile, found '", pattern, "' (",
            message_of(error), ")");
    pcre2_jit_compile_8(code_.get(), PCRE2_JIT_COMPLETE);  // Where there is no JIT, the interpreter gives the same.
  }

  /// The pattern that matches exactly `literal`.
  [[nodiscard]] static Regex of_literal(std::string_view literal, std::string_view where) {
    std::string pattern;
    for (const char c : literal) {
      // \x{..} for every ASCII character: none of them is then syntax.
      if (static_cast<std::uint8_t>(c) < 0x80) {
        constexpr char digits[] = "0123456789abcdef";
        pattern += concat("\\x{", digits[(c >> 4) & 0xF], digits[c & 0xF], '}');
      } else {
        pattern += c;
      }
    }
    return Regex(pattern, where);
  }

  /// Cuts `text` (UTF-8) into matches and what lies between; the spans tile it in order. An empty match right after
  /// another match is passed over. Throws Error when a match takes more steps than the limit.
  [[nodiscard]] std::vector<Span> tile(std::string_view text) const {
    std::vector<Span> spans;
    Matcher matcher(*code_);
    std::size_t done = 0;  // spans cover [0, done)
    std::size_t from = 0;
    while (from <= text.size() && matcher.search(text, from)) {
      const auto [begin, end] = matcher.found();
      if (begin == end && !spans.empty() && spans.back().matches && spans.back().end == end) {
        from += from < text.size() ? utf8_step(text, from).length : 1;
        continue;
      }
      if (done != begin) spans.push_back({done, begin, false});
      spans.push_back({begin, end, true});
      done = from = end;
    }
    if (done != text.size()) spans.push_back({done, text.size(), false});
    return spans;
  }

  /// Whether the pattern matches at `text[at]`.
  [[nodiscard]] bool matches_at(std::string_view text, std::size_t at) const {
    Matcher matcher(*code_);
    return matcher.search(text, at, PCRE2_ANCHORED);
  }

 private:
  class Matcher {
   public:
    explicit Matcher(const pcre2_code_8& code)
        : code_(code),
          data_(pcre2_match_data_create_8(1, nullptr), pcre2_match_data_free_8),
          context_(pcre2_match_context_create_8(nullptr), pcre2_match_context_free_8) {
      // 10 million steps and 64 MiB are far above what a pattern of a published tokenizer takes for a match.
      pcre2_set_match_limit_8(context_.get(), 10'000'000);
      pcre2_set_heap_limit_8(context_.get(), 64 * 1024);
    }

    bool search(std::string_view text, std::size_t from, std::uint32_t options = 0) {
      const auto* subject = reinterpret_cast<PCRE2_SPTR8>(text.data());
      options |= PCRE2_NO_UTF_CHECK;  // the text was checked once; a check per match would be quadratic
      int result = pcre2_match_8(&code_, subject, text.size(), from, options, data_.get(), context_.get());
      if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        options |= PCRE2_NO_JIT;
        result = pcre2_match_8(&code_, subject, text.size(), from, options, data_.get(), context_.get());
      }
      if (result == PCRE2_ERROR_NOMATCH) return false;
      require(result >= 0, "regular expression: expected a match within its limits, found at byte ", from, ": ",
              message_of(result));
      return true;
    }

    /// The last match. (\K in a look-ahead can set the start past the end: then it is empty.)
    [[nodiscard]] std::pair<std::size_t, std::size_t> found() const {
      const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer_8(data_.get());
      return {std::min(offsets[0], offsets[1]), offsets[1]};
    }

   private:
    const pcre2_code_8& code_;
    std::unique_ptr<pcre2_match_data_8, void (*)(pcre2_match_data_8*)> data_;
    std::unique_ptr<pcre2_match_context_8, void (*)(pcre2_match_context_8*)> context_;
  };

  static std::string message_of(int error) {
    PCRE2_UCHAR8 text[160] = {};
    pcre2_get_error_message_8(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
  }

  /// PCRE2's \s has U+180E, which left White_Space with Unicode 6.3: the property itself is asked for instead.
  static std::string with_standard_white_space(std::string_view pattern) {
    std::string out;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] != '\\' || i + 1 == pattern.size()) {
        out += pattern[i];
        continue;
      }
      ++i;
      if (pattern[i] == 's') {
        out += "\\p{White_Space}";
      } else if (pattern[i] == 'S') {
        out += "\\P{White_Space}";
      } else {
        out += '\\';
        out += pattern[i];
      }
    }
    return out;
  }

  std::shared_ptr<pcre2_code_8> code_;
};

}  // namespace tessera::text
