"""People and erased texts are known again by a keyed hash, never by what they are.

In: a user's id or a text.  Out: 64 hex digits, which nobody without the key can compute back, not
even by trying all telephone numbers. The key is a file of the data folder that only its owner can
read (made on first use), or $FT2OLLAMA_HMAC_KEY: the same on every machine that writes into one
ledger.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from hashlib import sha256
from pathlib import Path

from ft2ollama.files import fsync_folder
from ft2ollama.loop.records import Exchange, question_key
from ft2ollama.paths import data_dir


def hmac_user(text: str) -> str:
    """A user's id as HMAC-SHA256; "" stays ""."""
    return _hmac("user", text.strip()) if text.strip() else ""


def content_hmac(row: Exchange) -> str:
    """What was asked and answered, whatever file it comes from; for `erasure.content_hmac`."""
    return words_hmac(row.question, row.answer)


def words_hmac(question: str, answer: str) -> str:
    """`content_hmac` of a row of the ledger."""
    return _hmac("content", f"{question_key(question)}\n{question_key(answer)}")


def key_file() -> Path:
    """Where the key lies, unless FT2OLLAMA_HMAC_KEY holds it."""
    return data_dir() / "hmac.key"


def _hmac(use: str, text: str) -> str:
    return hmac.new(_key(), f"{use}\n{text}".encode(), sha256).hexdigest()


def _key() -> bytes:
    if given := os.environ.get("FT2OLLAMA_HMAC_KEY"):
        return given.encode()
    path = key_file()
    if not path.exists():
        _make(path)
    return path.read_bytes()


def _make(path: Path) -> None:
    """Write a new key whole, for its owner alone; if another process was first, keep its key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".hmac.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
        fsync_folder(path.parent)
    finally:
        Path(name).unlink()
