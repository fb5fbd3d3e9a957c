#pragma once
// tokenizer.model: a SentencePiece model, run by libsentencepiece where the build has it (TESSERA_SENTENCEPIECE).

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/text/vocabulary.hpp>

#ifdef TESSERA_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

namespace tessera::text {

/// Text to ids as SentencePiece does it, whatever the kind of model, and what its pieces are. Const use from several
/// threads is safe.
class SentencePieceModel {
 public:
  /// Reads the bytes of a tokenizer.model; `where` names it. Throws Error for other bytes, and in a build without
  /// libsentencepiece.
  SentencePieceModel([[maybe_unused]] std::string_view bytes, const std::string& where) {
#ifdef TESSERA_SENTENCEPIECE
    processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
    const auto status = processor_->LoadFromSerializedProto(bytes);
    require(status.ok(), where, ": expected a SentencePiece model, found something else (", status.message(), ')');
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      const std::string& piece = processor_->IdToPiece(id);
      require(vocabulary_.add(piece, id), where, ": expected pieces that differ, found '", piece, "' again, as ", id);
      if (processor_->IsControl(id) || processor_->IsUnknown(id)) special_.push_back(id);
    }
    bos_ = processor_->bos_id(), eos_ = processor_->eos_id();
    outsider_pieces_ = pieces_of(outsider).size();
    const std::vector<int> letter = pieces_of("a");
    adds_space_ = !letter.empty() && processor_->IdToPiece(letter[0]).starts_with("\xE2\x96\x81");  // "▁"
#else
    fail(where,
         ": tokenizer.json is missing, and this build cannot read tokenizer.model: install libsentencepiece-dev ",
         "and build again, or write tokenizer.json with transformers, ",
         "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)");
#endif
  }

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
  /// Control pieces and the unknown one: text does not contain them, but as added tokens.
  [[nodiscard]] const std::vector<token_t>& special() const { return special_; }
  /// -1 where the model has none.
  [[nodiscard]] token_t bos() const { return bos_; }
  [[nodiscard]] token_t eos() const { return eos_; }

  /// Whether the model puts a space before a text, which decoding takes away again.
  [[nodiscard]] bool adds_space() const { return adds_space_; }

  /// Appends the ids of a text. The model's own space before a text is left out where it does not `begin` one.
  void encode([[maybe_unused]] std::string_view text, [[maybe_unused]] bool begins,
              [[maybe_unused]] std::vector<token_t>& out) const {
#ifdef TESSERA_SENTENCEPIECE
    const std::vector<int> ids = begins ? pieces_of(text) : pieces_of(std::string(outsider).append(text));
    out.insert(out.end(), ids.begin() + static_cast<std::ptrdiff_t>(begins ? 0 : outsider_pieces_), ids.end());
#endif
  }

 private:
#ifdef TESSERA_SENTENCEPIECE
  /// A character for private use, which no vocabulary has: the space goes before it, and it merges with nothing.
  static constexpr std::string_view outsider = "\xEE\x80\x80";

  [[nodiscard]] std::vector<int> pieces_of(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor_->Encode(text, &ids);
    require(status.ok(), "tokenizer.model: ", status.message());
    return ids;
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::size_t outsider_pieces_ = 0;
#endif
  Vocabulary vocabulary_;
  std::vector<token_t> special_;
  token_t bos_ = -1;
  token_t eos_ = -1;
  bool adds_space_ = false;
};

}  // namespace tessera::text
