"""Makes the fixtures of this folder with llama.cpp as the reference.

    pip install llama-cpp-python==0.3.36 gguf==0.19.0
    python make.py SmolLM2-135M-Instruct.Q4_1.gguf

smollm2.txt        ids of hard texts by the model's own tokenizer
byte-level.txt     a small byte-level vocabulary; a checksum of the ids of each text under each pre-tokenizer
sentencepiece.txt  a small vocabulary driven by scores, and ids

Lines are `key value…`; bytes are in hexadecimal. `plain` ids read special tokens as text, `special` ids
as tokens. A checksum is FNV-1a (32 bits) over the ids as little-endian 32-bit integers.
"""
import collections
import ctypes
import os
import struct
import sys
import tempfile

import gguf
from llama_cpp import llama_cpp as native


@native.llama_log_callback
def silent(level, text, data):
    pass


native.llama_log_set(silent, None)
native.llama_backend_init()


class Reference:
    def __init__(self, path):
        parameters = native.llama_model_default_params()
        parameters.vocab_only = True
        self.model = native.llama_model_load_from_file(path.encode(), parameters)
        assert self.model, path
        self.vocabulary = native.llama_model_get_vocab(self.model)

    def encode(self, text, special):
        room = 4 * len(text) + 16
        ids = (ctypes.c_int32 * room)()
        count = native.llama_tokenize(
            self.vocabulary, text, len(text), ids, room, False, special)
        assert count >= 0
        return list(ids[:count])

    def endings(self):
        count = native.llama_vocab_n_tokens(self.vocabulary)
        return [i for i in range(count) if native.llama_vocab_is_eog(self.vocabulary, i)]


TEXTS = [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in [
    "",
    "Hello, world! It's 2024; we'LL see what they've DONE, and I'd say they're 'quoted'.",
    " leading   and trailing   \n\n\n   \t\tmixed \r\n\r\n line\rbreaks \n ",
    "x" + " " * 70 + "y" + "\t" * 9 + "\n" * 12,
    "12345678901 3.14159 1,234,567 \u0663\u0664\u0665 \u096a\u096b \u216b \u00bd\u00b2 \U0001d7d7 \u3007",
    "na\u00efve cafe\u0301 A\u030a \u0e17\u0e35\u0e48 \u0928\u092e\u0938\u094d\u0924\u0947 o\u0308\u0323 \u20dd",
    "\u4e2d\u6587\u5206\u8bcd\u3001\u30c6\u30b9\u30c8\u3002\u3072\u3089\u304c\u306a\uff71\uff72 \ud55c\uad6d\uc5b4 \u3131\u3105 \u8c48\uf900",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202b\u05e2\u05d1\u05e8\u05d9\u05ea\u202c \u2067RTL\u2069 \u060c\u061f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7 \u2764\ufe0f \U0001fae8",
    "iPhone HTMLParser it'rex O'Reilly's 1\u0661\u0662 a\u0301\u0301b x\u0301Y \u0301\u4e2d \u4e2d's \u00c9cole \u0416\u0436\u0416 \u01c5 \u02b0x \uff21\uff42 stra\u00dfe \u00b5m \u017f\u212a",
    "a\u00a0b\u2003c\u3000d\u2028e\u0085f\u200bg \u2003 \u3000!",
    "if (a[i] != b->c) { return *p++ / 2; } // $x += `y` | ~z ^ <w>\n\t@dec#tag %d \\n {{}} \"q\" _u_",
    "control \x00\x01\x02\x1b[0m\x7f \ufffd \ue000 \U000e0001 \u0378 end",
    "<sentinel:12> IMGIMGABCDZ IMGIMGABCDEZ  \n \u2026\u2014\u201cq\u201d \u0964 \u06d4 \u00bf? ... !!! ///\n/",
    b"\x80 \xc0\x80 \xe0\x80\x80 \xe2\x82 \xed\xa0\x80 \xf0\x9f\x98 \xff\xfe \xc3( \xf8\x88\x80\x80\x80 end \xe2\x82",
    b"<|im_start|>user\nHi<|im_end|>\n <|endoftext|> <|im_start|<|im_end|> <repo_name><file_sep>",
    b"<s> <unk></s>[INST] \xe2\x96\x81x  <0x0A> <a><ab><abc> <ab<abc>>",
]]


def numbers(ids):
    return " ".join(map(str, ids))


def checksum(ids):
    value = 0x811C9DC5
    for byte in b"".join(struct.pack("<i", i) for i in ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def goldens(reference, out):
    out.write(f"ends {numbers(reference.endings())}\n")
    for text in TEXTS:
        out.write(f"text {text.hex()}\n")
        out.write(f"plain {numbers(reference.encode(text, False))}\n")
        out.write(f"special {numbers(reference.encode(text, True))}\n")


def smollm2(path):
    with open("smollm2.txt", "w") as out:
        out.write("# Made by make.py; the tokenizer of SmolLM2-135M-Instruct.Q4_1.gguf\n")
        goldens(Reference(path), out)


def write_vocabulary(path, model, pre, tokens, types, scores, merges):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def spelled():
    """GPT-2's printable characters for the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + index) for index, byte in enumerate(rest)}


NAMES = """default llama-bpe minicpm5 dbrx glm4 gpt-2 smollm qwen2 qwen35 laguna ufakzeka seed-coder exaone-moe jais-2
falcon deepseek-llm deepseek-coder deepseek-v3 spark2_5 afmoe youtu tekken gpt-4o granite-embed-multi-97m
tiny_aya kimi-k2 poro-chat viking superbpe chameleon starcoder refact command-r mpt olmo stablelm2 smaug-bpe
codeshell bailingmoe hunyuan-dense grok-2 exaone4""".split()


def byte_level():
    # Merges learned from the texts without cutting them into words first reach across every place where a
    # pre-tokenizer may cut, so that ids show where it did.
    spelling = spelled()
    sequences = [[spelling[byte] for byte in text] for text in TEXTS]
    merges = []
    while len(merges) < 640:
        pairs = collections.Counter(
            pair for sequence in sequences for pair in zip(sequence, sequence[1:]))
        pair = max(pairs.items(), key=lambda item: (item[1], -len("".join(item[0])), item[0]))[0]
        merges.append(pair)
        for index, sequence in enumerate(sequences):
            merged = []
            for symbol in sequence:
                if merged and (merged[-1], symbol) == pair:
                    merged[-1] = pair[0] + pair[1]
                else:
                    merged.append(symbol)
            sequences[index] = merged
    special = ["<unk>", "<s>", "</s>", "<ab>", "<abc>", "<a>"]
    types = [2, 3, 3, 4, 4, 3] + [1] * 256
    tokens = special + [spelling[byte] for byte in range(256)]
    # Some merges lead through texts that are no tokens.
    silent_merges = {index for index in range(len(merges)) if index % 16 == 7}
    for index, (left, right) in enumerate(merges):
        if index in silent_merges or left + right in tokens:
            silent_merges.add(index)
        else:
            tokens.append(left + right)
            types.append(1)
    with open("byte-level.txt", "w") as out, tempfile.TemporaryDirectory() as folder:
        out.write("# Made by make.py. A `merge` makes the next token, a `pass` is a merge without one;\n")
        out.write("# both in GPT-2's spelling. `bytes` stands for the tokens of the bytes, in order.\n")
        for token, kind in zip(special, types):
            out.write(f"token {token.encode().hex()} {kind}\n")
        out.write("bytes\n")
        for index, (left, right) in enumerate(merges):
            key = "pass" if index in silent_merges else "merge"
            out.write(f"{key} {left} {right}\n")
        for text in TEXTS:
            out.write(f"text {text.hex()}\n")
        sums = {}
        for name in NAMES:
            path = os.path.join(folder, "vocabulary.gguf")
            write_vocabulary(
                path, "gpt2", name, tokens, types, None, [f"{l} {r}" for l, r in merges])
            reference = Reference(path)
            sums[name] = [
                checksum(reference.encode(text, special))
                for text in TEXTS for special in (False, True)]
            out.write(f"pre {name} {' '.join(sums[name])}\n")
        alike = collections.defaultdict(list)
        for name, values in sums.items():
            alike[tuple(values)].append(name)
        print(*(" ".join(names) for names in alike.values()), sep="\n")


def sentencepiece():
    tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % byte for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    scores = [0.0] * len(tokens)

    def add(text, kind, score):
        if text not in tokens:
            tokens.append(text)
            types.append(kind)
            scores.append(score)

    for text in [b"<a>", b"<ab>", b"  ", b"\n\n"]:
        add(text, 4, 0.0)
    add(b"[INST]", 3, 0.0)
    pieces = collections.Counter()
    for text in TEXTS:
        try:
            text = text.decode()
        except UnicodeDecodeError:
            continue
        text = ("\u2581" + text.replace(" ", "\u2581"))
        for length in range(1, 6):
            for start in range(len(text) - length + 1):
                pieces[text[start:start + length]] += 1
    chosen = [p for p, count in pieces.items() if count >= 3 or (len(p) == 1 and p.isascii())]
    chosen.sort(key=lambda piece: (-len(piece) * pieces[piece], piece))
    for rank, piece in enumerate(chosen[:220]):
        # Steps of two give pairs of tokens the same score.
        add(piece.encode(), 1, -float(rank // 2))
    with open("sentencepiece.txt", "w") as out, tempfile.TemporaryDirectory() as folder:
        out.write("# Made by make.py.\n")
        for token, score, kind in zip(tokens, scores, types):
            if kind == 6:
                # Tokens that name bytes, in order.
                if token == b"<0x00>":
                    out.write("bytes\n")
                continue
            out.write(f"token {token.hex()} {kind} {score}\n")
        path = os.path.join(folder, "vocabulary.gguf")
        write_vocabulary(path, "llama", "default", tokens, types, scores, None)
        goldens(Reference(path), out)


smollm2(sys.argv[1])
byte_level()
sentencepiece()
