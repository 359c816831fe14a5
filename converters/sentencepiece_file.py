"""tokenizer.model -> pieces, scores, types and the few settings that change token ids.

Read here and not with the `sentencepiece` package: that gives neither the kind of model (unigram
models have scores too, but cut text differently) nor which pieces are user defined, and it crashes
on some broken files. Format: sentencepiece_model.proto (ModelProto), protobuf wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.errors import ConvertError, Unsupported

_BPE = 2  # TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece.Type

Value = int | bytes


@dataclass(frozen=True)
class Piece:
    """One row. kind: a SentencePiece.Type; GGUF's token types have the same numbers."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """A BPE model. The last three say what happens to a text before it is cut."""

    pieces: list[Piece]
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    normalizes: bool = False


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a tokenizer.model; ConvertError if it is broken, Unsupported if it is not BPE."""
    try:
        return _model(path.read_bytes())
    except (ValueError, struct.error, IndexError) as error:
        raise ConvertError(
            f"{path.name} is not a SentencePiece model",
            "",
            str(error),
            "take it from the model this one was made of, or remove it if tokenizer.json is there",
        ) from error


def _model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(dict(_fields(_message(value)))))
        elif number == 2:
            trainer = dict(_fields(_message(value)))
        elif number == 3:
            normalizer = dict(_fields(_message(value)))
    if not pieces:
        raise ValueError("it holds no pieces")
    if trainer.get(3, 1) != _BPE:
        raise Unsupported(
            "the SentencePiece model is not of type BPE",
            "",
            f"its type is {trainer.get(3, 1)!r} (1 unigram, 2 BPE, 3 word, 4 char)",
        )
    if trainer.get(24):
        raise Unsupported("the SentencePiece model puts spaces at the end of words", "")
    return SentencePieceModel(
        pieces,
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        normalizes=bool(normalizer.get(2, b"")),
    )


def _piece(fields: dict[int, Value]) -> Piece:
    score = fields.get(2, b"\0\0\0\0")
    kind = fields.get(3, NORMAL)
    if not isinstance(score, bytes) or not isinstance(kind, int) or not NORMAL <= kind <= BYTE:
        raise ValueError("a piece has no sound score or type")
    number = struct.unpack("<f", score)[0]
    if number != number:
        raise ValueError("a piece has the score NaN")
    return Piece(_message(fields.get(1, b"")).decode("utf-8"), number, kind)


def _message(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Field number and value of each field; fixed-width values as their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            width, at = _varint(data, at)
        elif wire in _WIDTHS:
            width = _WIDTHS[wire]
        else:
            raise ValueError(f"unknown wire type {wire} at byte {at}")
        if at + width > len(data):
            raise ValueError(f"a field at byte {at} is longer than the file")
        yield number, data[at : at + width]
        at += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number before byte {at} is longer than 64 bits")
