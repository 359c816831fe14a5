"""A row as its exact tokens: what each one is, and which of them are learned.

In: token ids and labels of a row.  Out: pieces to print (`cli/data_preview.py`) or to put into a
page (`preview_html.py`).

A token of a byte-level vocabulary may end inside a character. Such tokens carry their bytes, and
the last one of the character carries the character as well, so that nothing is hidden or guessed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ft2ollama.data.render import IGNORED, Sample
from ft2ollama.data.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Piece:
    """One token. text: what it says, "" for a token that only begins a character.

    raw: the bytes, of a token that ends or begins inside a character, else b"".
    special: a control token.  learned: the loss sees it.
    """

    id: int
    text: str
    raw: bytes = b""
    special: bool = False
    learned: bool = False


def pieces(sample: Sample, tokenizer: Tokenizer) -> list[Piece]:
    """Every token of a row, in order."""
    special = {tokenizer.id(token) for token in tokenizer.special}
    byte_level = _is_byte_level(tokenizer)
    found: list[Piece] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    inside = False
    for token, label in zip(sample.ids, sample.labels, strict=True):
        learned = label != IGNORED
        name = tokenizer.text(token) or ""
        if token in special:
            found.append(Piece(token, name, special=True, learned=learned))
            decoder.reset()
            inside = False
            continue
        data = token_bytes(name, byte_level=byte_level)
        text = decoder.decode(data)
        ends_inside = bool(decoder.getstate()[0])
        raw = data if inside or ends_inside else b""
        found.append(Piece(token, text, raw, learned=learned))
        inside = ends_inside
    return found


def token_bytes(name: str, *, byte_level: bool) -> bytes:
    """The bytes that a token of the vocabulary stands for.

    byte_level: GPT-2's alphabet of 256 letters for 256 bytes; else SentencePiece's writing, with
    ▁ for a space and <0xE4> for a byte.
    """
    if byte_level:
        alphabet = _byte_alphabet()
        if all(letter in alphabet for letter in name):
            return bytes(alphabet[letter] for letter in name)
        return name.encode()
    if found := _BYTE.fullmatch(name):
        return bytes([int(found[1], 16)])
    return name.replace(_SPACE, " ").encode()


def spread(sizes: Sequence[int], count: int) -> list[int]:
    """Numbers of `count` rows: the shortest, the longest, and evenly between them by rank."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    if len(order) <= count:
        return order
    places = [round(step * (len(order) - 1) / max(1, count - 1)) for step in range(count)]
    return [order[place] for place in places]


@dataclass(frozen=True)
class Unit:
    """What a line of text shows at once: a token, or the tokens of one character.

    start: number of the first token.  text: `萤₃` for a character of three tokens.
    """

    start: int
    text: str
    learned: bool
    special: bool = False


def units(found: Sequence[Piece], cutoff: int) -> Iterator[Unit]:
    """The tokens in order; those of one character together, unless `cutoff` falls between them."""
    start = 0
    while start < len(found):
        piece = found[start]
        end = start + 1
        if piece.raw:
            end = next((n + 1 for n in range(start, len(found)) if found[n].text), end)
        group = found[start:end]
        if len(group) > 1 and len(group[-1].text) == 1 and not start < cutoff < end:
            count = str(len(group)).translate(_SUBSCRIPT)
            yield Unit(start, visible(group[-1]).text + count, piece.learned)
        else:
            for number, one in enumerate(group, start):
                yield Unit(number, _letters(one), one.learned, one.special)
        start = end


def _letters(piece: Piece) -> str:
    """A token's text, or its bytes and then the characters they end."""
    shown = visible(piece).text
    return f"<{hex_of(piece.raw)}>{shown}" if piece.raw else shown


def visible(piece: Piece) -> Piece:
    """The piece with its white space made visible; a line break stays, after its mark."""
    text = piece.text.replace("\t", "⇥").replace("\r", "␍").replace("\n", "⏎\n")
    text = "".join(char if char.isprintable() or char == "\n" else _code(char) for char in text)
    return replace(piece, text=text)


def hex_of(raw: bytes) -> str:
    """Bytes as people write them."""
    return raw.hex(" ")


def _code(char: str) -> str:
    return f"‹{ord(char):04x}›"


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Does the vocabulary write bytes in GPT-2's alphabet? Ġ is its space, Ċ its line break."""
    return tokenizer.id("Ġ") is not None or tokenizer.id("Ċ") is not None


@cache
def _byte_alphabet() -> dict[str, int]:
    """Letter -> byte, as GPT-2's byte-level BPE has it: printable bytes are themselves, the others
    follow from U+0100 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return {**letters, **{chr(0x100 + place): byte for place, byte in enumerate(others)}}
