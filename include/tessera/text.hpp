#pragma once
// Tokenizers and chat formats: everything under text/. Needs nlohmann-json, PCRE2 and utf8proc.

#include <tessera/text/chat_format.hpp>
#include <tessera/text/tokenizer.hpp>
