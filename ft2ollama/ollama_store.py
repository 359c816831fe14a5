"""Ollama's store on this disk: point a name at another model without a moment of neither.

`/api/copy` truncates the manifest and writes it anew (ollama server/images.go CopyModel): a reader
in between gets HTTP 500 and the name is missing from the list. A manifest written elsewhere on the
same file system and renamed over the old one is seen old or new, never broken; the server reads
manifests anew for each request. So where the store is on this machine and writable, a name moves by
rename; elsewhere `aliases.py` copies and reads back.

A manifest's path is manifests/HOST/NAMESPACE/MODEL/TAG, and its sha256 is the digest that /api/tags
shows: that is how a folder is known to be the store of the server that was asked.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ft2ollama.files import fsync_folder
from ft2ollama.ollama_names import split_name

_OURS = ".ft2ollama"  # beside manifests/ and blobs/: the server's listing globs only manifests/
_SYSTEM_STORES = (
    "/usr/share/ollama/.ollama/models",  # the service that install.sh makes
    "/var/lib/ollama/models",
)


@dataclass(frozen=True)
class Store:
    """folder: what the server has as OLLAMA_MODELS."""

    folder: Path

    def manifest(self, name: str) -> Path:
        """Where the manifest of `name` lies."""
        parts = split_name(name)
        folder = self.folder / "manifests" / parts["host"] / parts["namespace"]
        return folder / parts["model"] / parts["tag"]

    def digest(self, name: str) -> str | None:
        """sha256 of the manifest (hex), None when there is none or it is empty."""
        try:
            text = self.manifest(name).read_bytes()
        except OSError:
            return None
        return sha256(text).hexdigest() if text else None

    def is_writable(self) -> bool:
        """May this process put a manifest in place?"""
        return os.access(self.folder / "manifests", os.W_OK) and os.access(self.folder, os.W_OK)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One ft2ollama at a time moves names in this store."""
        from filelock import FileLock

        (self.folder / _OURS).mkdir(exist_ok=True)
        with FileLock(self.folder / _OURS / "lock"):
            yield

    def point(self, alias: str, tag: str) -> None:
        """Make `alias` what `tag` is, by rename. Raises OSError; then the alias is as it was."""
        content = self.manifest(tag).read_bytes()
        target = self.manifest(alias)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / _OURS).mkdir(exist_ok=True)
        handle, part = tempfile.mkstemp(dir=self.folder / _OURS, suffix=".manifest")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(part, self.manifest(tag).stat().st_mode & 0o777)  # noqa: PTH101 - mkstemp's is 0600
            os.replace(part, target)  # noqa: PTH105
        finally:
            Path(part).unlink(missing_ok=True)
        fsync_folder(target.parent)


def find_store(name: str, digest: str) -> Store | None:
    """The store on this machine whose manifest of `name` has `digest`, as a server just told.

    Looks at OLLAMA_MODELS, the user's own store and those of system services. A server in a
    container, or one whose files this user may not read, has no store here.
    """
    own = os.environ.get("OLLAMA_MODELS")
    places = [*([own] if own else []), "~/.ollama/models", *_SYSTEM_STORES]
    for place in places:
        store = Store(Path(place).expanduser())
        if store.digest(name) == digest.removeprefix("sha256:"):
            return store
    return None
