#!/usr/bin/env python3
"""Render conversations with every template in test/golden/chat, as transformers' apply_chat_template does.

usage: make_chat.py CHAT [PUBLISHED]                                   needs: transformers, jinja2

CHAT/NAME.jinja is a template of our own, which says what the published one says about system, user and assistant.
Where PUBLISHED/NAME.jinja is there, the published template, the two have to give the same texts.
CHAT/NAME.json: {bos_token, eos_token, cases: [{messages, add_generation_prompt, thinking, date, text}]}; a thinking or date of null
is one that was not given, a text of null a conversation that the template refuses.
"""
import glob
import json
import os
import sys

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"llama2": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
          "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), "qwen": ("", "<|im_end|>"), "chatml": ("", "<|im_end|>")}


def system(text): return dict(role="system", content=text)
def user(text): return dict(role="user", content=text)
def assistant(text): return dict(role="assistant", content=text)


CONVERSATIONS = [
    [user("Hi")],
    [system("Answer briefly."), user("What is a tessera?")],
    [user("Hi"), assistant("Hello! How can I help?"), user("Name a tile.")],
    [system("Be kind."), user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
    [user("Hi"), assistant("Hello!")],
    [user("  spaces around \n"), assistant("\n\n lines around \t\n"), user("\u2003em\u00a0\x1c\x85")],
    [system(" \n system \n "), user("x")],
    [user("")],
    [system(""), user("x"), assistant(""), user("y")],
    [user("no role marks: <|im_start|> [INST] <|eot_id|> 'quotes' \"and\" \\n {{ braces }}")],
    [user("q"), assistant("<think>\nlong\n\nthought\n</think>\n\nanswer"), user("q2")],
    [user("q"), assistant("<think>\nlong\n\nthought\n</think>\n\nanswer")],
    [user("q"), assistant("<think>\n\n</think>\n\nanswer")],
    [user("q"), assistant("thought without beginning\n\n</think>\n\n\nanswer\n\n"), user("r"), assistant("\n\nplain")],
    [user("q"), assistant("<think>a</think>b</think>\nc"), assistant("and more"), assistant("<think>x</think>y")],
    [user("q"), assistant("one"), assistant("two")],
    [user("q"), assistant("<think>n</think>call"), user("<tool_response>\n42\n</tool_response>"), assistant("<think>m</think>so 42")],
    [user("<tool_response>1</tool_response>")],
    [user("a"), system("in between"), user("b"), system("again"), assistant("c")],
    [assistant("first"), user("b")],
    [user("a"), user("b")],
    [system("only")],
    [user("日本語 😀"), assistant("한국어"), user("हिन्दी")],
]


def render(template, messages, prompt, tokens, thinking, date):
    given = {}
    if thinking is not None:
        given["enable_thinking"] = thinking
    if date is not None:
        given["date_string"] = date
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt,
                                         bos_token=tokens[0], eos_token=tokens[1], **given)
    except TemplateError:
        return None
    return texts[0]


def main():
    chat, published = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    for path in sorted(glob.glob(os.path.join(chat, "*.jinja"))):
        name = os.path.basename(path)[:-len(".jinja")]
        template = open(path, encoding="utf8").read()
        other = os.path.join(published, name + ".jinja") if published else ""
        reference = open(other, encoding="utf8").read() if os.path.exists(other) else None
        tokens = next(t for start, t in TOKENS.items() if name.startswith(start))
        thinking = [None, False, True] if "enable_thinking" in template else [None]
        dates = ["26 Jul 2024"] if "strftime_now" in template else [None, "01 Feb 2025"] if "date_string" in template else [None]
        cases = []
        for messages in CONVERSATIONS:
            for prompt in (True, False):
                for think in thinking:
                    for date in dates:
                        text = render(template, messages, prompt, tokens, think, date)
                        if reference is not None:
                            expected = render(reference, messages, prompt, tokens, think, date)
                            assert text == expected, f"{name}: {messages}\nours: {text!r}\npublished: {expected!r}"
                        cases.append(dict(messages=messages, add_generation_prompt=prompt, thinking=think, date=date, text=text))
        with open(os.path.join(chat, name + ".json"), "w", encoding="utf8") as file:
            json.dump(dict(bos_token=tokens[0], eos_token=tokens[1], cases=cases), file, ensure_ascii=False, indent=0)
        print(name, len(cases), "published" if reference is not None else "ours alone")


if __name__ == "__main__":
    main()
