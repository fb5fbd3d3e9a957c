#!/usr/bin/env python3
"""Make small tokenizers of random components, and record how the tokenizers library encodes and decodes with them.

usage: make_tokenizer_cases.py OUT COUNT [--texts N] [--seed S]        needs: tokenizers (0.20 or newer)

OUT/mix_SSS/tokenizer.json, cases.json: [{text, ids, ids_no_special, decoded}] and decodes.json: [{ids, skip_special, decoded}]
for SSS = S, S+1, ... Each seed gives one tokenizer: its normalizer, pre-tokenizer, model flags, added tokens with all their
flags, template and decoder are drawn at random, and so are the texts, from fragments that are often got wrong.
"""
import argparse
import json
import os
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPLITS = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\s+", r"[^\s]+", r"\p{P}", r"[\p{L}\p{M}]+", r"x*", r"$|^", r"(?<=a)b", r"\S\s?", r"[\s\S]{3}",
]
LITERALS = [" ", "▁", "e", "th", "\n", "."]
ADDED = [" ", "  ", "   ", "\n", "word", "wor", "<a>", "<a>b", "<|x|>", "<|x|>y", "é", "e\u0301", "▁", "▁x", "\ufb01", "fi",
         "\t", "Å", "中", "😀", "_", "9", "a b", " a", "a ", "<0x41>", "Ḍ\u0307"]
FRAGMENTS = ADDED + [
    "a", "b", "the", "ing", "The", " the", "e", "\u0301", "\u0323", "\u0307", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u180e", "\u200b",
    "\u200d", "\u2028", "\u0085", "\x0b", "\x1c", "\x00", "'s", "'LL", "'\u017f", "I", "ı", "ß", "ﬃ", "½", "Ⅷ", "²", "１", "٣", "한", "ᄒ", "ᅡ", "ᆫ",
    "日本", "の", "हि", "न्", "דּ", "\u05b8", "ع", "\u0651", "𝔘", "👩\u200d👩", "🏳️\u200d🌈", "\ufffd", "\ufeff", "\ue000", "\uffff", "\U0010ffff",
    "…", "—", "“", "$1.50", "123", "1234567", "x = 3;", "f(x)", "://", "#", "<", ">", "|", "0x", "\u0130", "Ω", "\u2126", "\u212b", "\u1e9b\u0323"]


def assigned(rng):
    """A random character of Unicode 14 that is not a surrogate."""
    while True:
        c = chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)]))
        if unicodedata.category(c) not in ("Cs", "Cn"):
            return c


def random_text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 40])):
        parts.append(rng.choice(FRAGMENTS) if rng.random() < 0.85 else assigned(rng))
        if rng.random() < 0.3:
            parts.append(rng.choice([" ", "  ", "\n", "\t", " \n "]))
    return "".join(parts)


def random_normalizer(rng):
    def one():
        return rng.choice([
            normalizers.NFC, normalizers.NFKC, normalizers.NFD, normalizers.NFKD,
            lambda: normalizers.Prepend(rng.choice(["▁", " ", "ab"])),
            lambda: normalizers.Replace(" ", "▁"),
            lambda: normalizers.Replace(rng.choice(LITERALS), rng.choice(["", "_", "▁▁"])),
            lambda: normalizers.Replace(Regex(rng.choice([r" {2,}", r"\s", r"\p{N}"])), rng.choice(["", " ", "#"])),
        ])()
    kind = rng.randrange(5)
    if kind == 0:
        return None
    if kind == 1:
        return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return one() if kind < 4 else normalizers.Sequence([one(), one()])


def random_pre_tokenizer(rng, byte_level, normalized):
    def split():
        pattern = Regex(rng.choice(SPLITS)) if rng.random() < 0.7 else rng.choice(LITERALS)
        behavior = rng.choice(["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"])
        return pre_tokenizers.Split(pattern, behavior, invert=rng.random() < 0.3)
    def metaspace():
        # "first" asks for the offset in the raw text. Where a normalizer takes away, joins or parts the first characters,
        # tessera, which keeps no offsets, does not follow; no published tokenizer has both.
        schemes = ["always", "never"] if normalized else ["always", "first", "never"]
        return pre_tokenizers.Metaspace(replacement=rng.choice(["▁", "▁", "_"]), split=rng.random() < 0.6,
                                        prepend_scheme=rng.choice(schemes))
    steps = []
    for _ in range(rng.randrange(3)):
        steps.append(rng.choice([split, split, metaspace, lambda: pre_tokenizers.Digits(rng.random() < 0.5)])())
    if byte_level:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3, use_regex=rng.random() < 0.5))
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def random_decoder(rng, byte_level):
    if byte_level and rng.random() < 0.8:
        return decoders.ByteLevel()
    return rng.choice([
        lambda: None,
        lambda: decoders.Metaspace(prepend_scheme=rng.choice(["always", "first", "never"])),
        lambda: decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        lambda: decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace(Regex("a+"), "A"), decoders.Strip("e", 2, 0)]),
        lambda: decoders.Sequence([decoders.Strip("a", 1, 0), decoders.ByteFallback(), decoders.Metaspace()]),
        lambda: decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()]),
    ])()


def random_added(rng, normalizer):
    out, forms = [], set()
    for content in rng.sample(ADDED, rng.randrange(9)):
        flag = lambda p=0.3: rng.random() < p
        token = AddedToken(content, single_word=flag(), lstrip=flag(), rstrip=flag(), normalized=flag(0.5), special=flag())
        form = normalizer.normalize_str(content) if token.normalized and normalizer else content
        # The library cannot build from normal forms that are empty or alike; and it does not skip a special token
        # whose normal form differs.
        if not form or (token.normalized, form) in forms or (token.special and form != content):
            continue
        forms.add((token.normalized, form))
        out.append(token)
    return out


def build(rng):
    byte_level = rng.random() < 0.5
    fallback = not byte_level and rng.random() < 0.7
    specials = ["<unk>", "<s>", "</s>"] if not byte_level else []
    if fallback:
        specials += ["<0x%02X>" % i for i in range(256) if rng.random() < (1.0 if rng.random() < 0.9 else 0.5)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if specials and rng.random() < 0.8 else None, byte_fallback=fallback,
                                     fuse_unk=rng.random() < 0.5))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace(split=rng.random() < 0.7)
    corpus = [random_text(rng) for _ in range(60)] + ["the thing in the word is a word and the fix 123 x"] * 9
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=len(specials) + len(alphabet) + rng.randrange(40, 300), special_tokens=specials, initial_alphabet=alphabet,
        limit_alphabet=60, show_progress=False))
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] in ("<unk>", "</s>")]
    document["model"]["ignore_merges"] = rng.random() < 0.3
    tokenizer = Tokenizer.from_str(json.dumps(document))
    if (normalizer := random_normalizer(rng)) is not None:
        tokenizer.normalizer = normalizer
    if (pre_tokenizer := random_pre_tokenizer(rng, byte_level, normalizer is not None)) is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if (decoder := random_decoder(rng, byte_level)) is not None:
        tokenizer.decoder = decoder
    tokenizer.add_tokens(random_added(rng, normalizer))
    if rng.random() < 0.5:
        ends = [(t, tokenizer.token_to_id(t)) for t in ("</s>", "<a>", "a") if tokenizer.token_to_id(t) is not None]
        if ends:
            first, last = rng.choice(ends), rng.choice(ends)
            template = processors.TemplateProcessing(single=rng.choice([f"{first[0]} $A", f"$A {last[0]}", f"{first[0]} $A {last[0]}"]),
                                                     special_tokens=list({first, last}))
            tokenizer.post_processor = rng.choice([template, processors.Sequence([processors.ByteLevel(), template])])
    return tokenizer


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out")
    arguments.add_argument("count", type=int)
    arguments.add_argument("--texts", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    for seed in range(options.seed, options.seed + options.count):
        rng = random.Random(seed)
        folder = os.path.join(options.out, f"mix_{seed:03d}")
        os.makedirs(folder, exist_ok=True)
        # What is compared is what comes back from the file, not the object that wrote it.
        document = json.loads(build(rng).to_str())
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf8") as file:
            json.dump(document, file, ensure_ascii=False, separators=(",", ":"))
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        cases, decodes = [], []
        for _ in range(options.texts):
            text = random_text(rng)
            try:
                ids, bare = tokenizer.encode(text).ids, tokenizer.encode(text, add_special_tokens=False).ids
            except BaseException as error:  # the library panics where lstrip meets white space that rstrip has taken
                if type(error).__name__ != "PanicException":
                    raise
            else:
                cases.append(dict(text=text, ids=ids, ids_no_special=bare, decoded=tokenizer.decode(bare, skip_special_tokens=False)))
            ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(12))]
            skip = rng.random() < 0.5
            decodes.append(dict(ids=ids, skip_special=skip, decoded=tokenizer.decode(ids, skip_special_tokens=skip)))
        for name, rows in (("cases", cases), ("decodes", decodes)):
            with open(os.path.join(folder, name + ".json"), "w", encoding="utf8") as file:
                json.dump(rows, file, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
