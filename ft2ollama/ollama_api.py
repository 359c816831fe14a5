"""Ollama's HTTP API as the rest of the tool needs it: models, blobs, create, chat, exact prompts.

In: names, files, messages. Out: plain values, or one of our errors with a fix. List, copy and
delete go through the official client; the rest through `ollama_http` (its docstring says why).
Models are created over JSON with blobs, never from Modelfile text: Ollama's Modelfile parser drops
every rune that Go does not call printable, U+3000 among them (ollama parser/parser.go).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ft2ollama.errors import JobError, UsageError, UserError
from ft2ollama.files import Progress, sha256_file
from ft2ollama.ollama_chat import (
    Message,
    Reply,
    Thought,
    chat_body,
    generate_plan,
    parse_reply,
    quiet_options,
)
from ft2ollama.ollama_http import ServerError, Transport, client_options
from ft2ollama.ollama_names import canonical_name, check_name, is_loopback, server_url
from ft2ollama.ollama_show import Shown, parse_shown

__all__ = [
    "Listed",
    "Ollama",
    "Reply",
    "ServerError",
    "Shown",
    "Thought",
    "check_name",
    "quiet_options",
]

# A blob can vanish between HEAD and create: deleting or re-creating a model prunes its blobs.
_BLOB_GONE = re.compile(r"blobs.sha256.*(no such file|cannot find)", re.S)
_DEBUG_RENDER_SINCE = (0, 11, 5)


@dataclass(frozen=True)
class Listed:
    """A line of /api/tags.  digest: sha256 (hex) of the manifest.  size: bytes of all its files."""

    name: str
    digest: str
    size: int
    modified: datetime | None


class Ollama:
    """A server. host: its URL.  is_local: it listens on this machine's loopback interface."""

    def __init__(self, host: str | None = None, *, timeout_s: float = 600) -> None:
        import ollama

        self.host = server_url(host)
        self.is_local = is_loopback(self.host)
        self._http = Transport(self.host, timeout_s)
        self._client = ollama.Client(
            self.host, timeout=self._http.timeout(None), **client_options(self.host)
        )

    # ---------------------------------------------------------------- models

    def version(self) -> str:
        """Version of the server; MachineError when nothing answers."""
        return str(self._http.get("/api/version", "tell its version").get("version", ""))

    def models(self) -> dict[str, str]:
        """Name -> digest of every model, names with their tag (`smol:latest`)."""
        return {model.name: model.digest for model in self.listed()}

    def listed(self) -> list[Listed]:
        """Every model, as /api/tags lists it."""
        with self._http.translated("list its models"):
            try:
                found = self._client.list().models
            except (ValueError, TypeError) as error:  # JSON, pydantic
                raise self._http.not_ollama(str(error).splitlines()[0]) from error
        return [
            Listed(model.model or "", model.digest or "", int(model.size or 0), model.modified_at)
            for model in found
        ]

    def exists(self, name: str) -> bool:
        """True when the server has this model; names differ in more than case, as in Ollama."""
        wanted = canonical_name(name).lower()
        return any(wanted == have.lower() for have in self.models())

    def show(self, name: str) -> Shown:
        """Everything the server tells about a model; UsageError when it has none of that name."""
        with self._known(name):
            data = self._http.post("/api/show", {"model": name}, f"show {name}")
        return parse_shown(data, is_local=self.is_local)

    def copy(self, src: str, dst: str) -> None:
        """Give a model a second name. Not atomic for concurrent readers (server/images.go)."""
        check_name(dst)
        with self._known(src), self._http.translated(f"copy {src} to {dst}"):
            self._client.copy(src, dst)

    def delete(self, name: str) -> None:
        """Remove a name; its blobs go when no other name uses them."""
        with self._known(name), self._http.translated(f"delete {name}"):
            self._client.delete(name)

    # ---------------------------------------------------------------- blobs and create

    def has_blob(self, digest: str) -> bool:
        """True when the server holds the blob `sha256:HEX` (or HEX)."""
        digest = f"sha256:{digest.removeprefix('sha256:')}"
        return self._http.head(f"/api/blobs/{digest}", "look for a blob") == 200

    def upload(self, path: Path, sha256: str, progress: Progress | None = None) -> str:
        """Send a file unless the server has it; return its digest. The server checks the hash."""
        digest = f"sha256:{sha256.removeprefix('sha256:')}"
        _check_file(path)
        if not self.has_blob(digest):
            self._http.post_file(f"/api/blobs/{digest}", path, f"store {path.name}", progress)
        elif progress:
            progress(path.stat().st_size, path.stat().st_size)
        return digest

    def create(  # noqa: PLR0913 - the fields of /api/create
        self,
        name: str,
        *,
        gguf: Path | None = None,
        gguf_sha256: str | None = None,
        from_: str | None = None,
        adapter: Path | None = None,
        adapter_sha256: str | None = None,
        template: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        messages: Sequence[Message] | None = None,
        license: str | Sequence[str] | None = None,
        progress: Progress | None = None,
        status: Callable[[str], None] | None = None,
    ) -> None:
        """Make (or remake) a model from a GGUF file or from another model.

        progress: bytes sent, per file.  status: each new line of what the server does. None means
        "not given"; an inherited template or system prompt cannot be taken away, only replaced.
        """
        check_name(name)
        if (gguf is None) == (from_ is None):
            raise UsageError(f"create {name}: give either gguf or from_", f"{gguf=}, {from_=}")
        if from_ is not None:  # else the server would try to pull it from the internet
            self._must_exist(from_)
        body: dict[str, Any] = {"from": from_, "template": template, "system": system}
        body |= {"parameters": parameters, "messages": messages, "license": license}
        body = {key: value for key, value in body.items() if value is not None}
        body |= {"model": name, "stream": True}
        files = [("files", gguf, gguf_sha256), ("adapters", adapter, adapter_sha256)]
        sent = [
            (key, _check_file(path), sha or sha256_file(path)) for key, path, sha in files if path
        ]
        for last in (False, True):
            for key, path, sha256 in sent:
                body[key] = {f"{key}.gguf": self.upload(path, sha256, progress)}
            try:
                self._create(name, body, status)
                return
            except ServerError as error:
                if last or not sent or not _BLOB_GONE.search(error.words):
                    raise

    def _create(
        self, name: str, body: dict[str, Any], status: Callable[[str], None] | None
    ) -> None:
        said = ""
        for line in self._http.lines("/api/create", body, f"create {name}"):
            if status and line.get("status") != said:
                status(str(line.get("status", "")))
            said = line.get("status", said)
        if said != "success":
            raise JobError(
                f"Ollama did not finish creating {name}",
                f"its last words were {said!r}, not 'success'",
                "see the server's log; then run the command again",
            )

    # ---------------------------------------------------------------- chat

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | None = None,
    ) -> Reply:
        """One whole answer."""
        body = chat_body(model, messages, options, tools, think) | {"stream": False}
        with self._known(model):
            return parse_reply(
                self._http.post("/api/chat", body, f"answer with {model}", timeout_s)
            )

    def chat_stream(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        think: bool | None = None,
    ) -> Iterator[str | Thought | Reply]:
        """Yield the thoughts and the answer piece by piece, then the whole `Reply`."""
        body = chat_body(model, messages, options, None, think) | {"stream": True}
        thoughts: list[str] = []
        pieces: list[str] = []
        doing = f"answer with {model}"
        with self._known(model):
            for line in self._http.lines("/api/chat", body, doing, timeout_s):
                message = line.get("message") or {}
                if thought := message.get("thinking"):
                    thoughts.append(thought)
                    yield Thought(thought)
                if piece := message.get("content"):
                    pieces.append(piece)
                    yield piece
                if line.get("done"):
                    yield parse_reply(line, "".join(pieces), "".join(thoughts))
                    return
        raise JobError(
            f"the answer of {model} broke off",
            f"after {len(''.join(pieces))} characters",
            f"see whether the server still runs: curl {self.host}/api/version",
        )

    # ---------------------------------------------------------------- exact prompts

    def prompt_ids(self, model: str, messages: Sequence[Message]) -> list[int] | None:
        """Token ids that the model is fed for a chat; None where the server cannot tell them.

        /api/generate returns `context`: prompt and reply, tokenized. Earlier turns come in as the
        MESSAGE history of a throw-away model made from `model`. Works from 0.9.3 on, without tools.
        """
        plan = generate_plan(messages, self.show(model))
        if plan is None:
            return None
        history, request = plan
        if not history:
            return self._ids_by_context(model, request)
        probe = f"ft2ollama-probe:{secrets.token_hex(6)}"
        try:
            self.create(probe, from_=model, messages=history)
            return self._ids_by_context(probe, request)
        finally:
            with contextlib.suppress(UserError):
                self.delete(probe)

    def _ids_by_context(self, model: str, request: dict[str, Any]) -> list[int] | None:
        """Make the reply empty, so that `context` is the prompt alone.

        Cutting the reply off by count would be wrong where its first characters merge with the
        prompt's last token. So: ask for one token, then ask again with that text as stop sequence.
        """
        for seed in range(3):  # a reply that is half a character cannot be stopped at: try another
            odd = {"seed": seed, "temperature": 2.0} if seed else {}
            data = self._generate(model, request, **odd)
            if text := data.get("response"):
                data = self._generate(model, request, stop=[text], **odd)
            if not data.get("response"):
                return self._with_bos(model, data)
        return None

    def _with_bos(self, model: str, data: dict[str, Any]) -> list[int] | None:
        """`context` lacks the BOS that the prompt got (ollama server/routes.go GenerateHandler)."""
        ids = [int(token) for token in data.get("context") or []]
        fed = int(data.get("prompt_eval_count") or 0)
        if fed < len(ids):
            raise JobError(
                f"the prompt does not fit the context of {model}",
                f"it has {len(ids)} tokens; Ollama cut it to {fed}",
                "raise num_ctx (PARAMETER num_ctx), or use shorter conversations",
            )
        if not ids or fed == len(ids):
            return ids or None
        bos = self.show(model).model_info.get("tokenizer.ggml.bos_token_id")
        return [int(bos), *ids] if fed == len(ids) + 1 and bos is not None else None

    def _generate(self, model: str, request: dict[str, Any], **options: Any) -> dict[str, Any]:
        # num_predict 0 means "unlimited" to 0.9.3
        quiet = quiet_options(self.is_local) | {"num_predict": 1} | options
        body = {"model": model, "stream": False, "options": quiet, **request}
        with self._known(model):
            return self._http.post("/api/generate", body, f"read a prompt with {model}")

    def prompt_text(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | None = None,
    ) -> str | None:
        """Prompt text for a chat, from servers that render on request (>= 0.11.5); else None."""
        number = tuple(map(int, re.findall(r"\d+", self.version())[:3]))
        if any(number) and number < _DEBUG_RENDER_SINCE:  # 0.0.0 is a build without a number
            return None
        options = quiet_options(self.is_local) | {"num_predict": 1}
        body = chat_body(model, messages, options, tools, think)
        body |= {"stream": False, "_debug_render_only": True}
        with self._known(model):
            data = self._http.post("/api/chat", body, f"render a prompt with {model}")
        text = (data.get("_debug_info") or {}).get("rendered_template")
        return None if text is None else str(text)

    def prompt_tokens(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        raw_text: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | None = None,
    ) -> int:
        """Number of prompt tokens of a chat, or of `raw_text` fed without a template."""
        if raw_text is not None:
            data = self._generate(model, {"prompt": raw_text, "raw": True})
            return int(data.get("prompt_eval_count") or 0)
        options = quiet_options(self.is_local) | {"num_predict": 1}
        return self.chat(model, messages, options=options, tools=tools, think=think).prompt_tokens

    def complete(self, model: str, text: str, *, tokens: int) -> Reply:
        """How the model goes on greedily after `text`, fed as it is, at most `tokens` tokens."""
        data = self._generate(model, {"prompt": text, "raw": True}, num_predict=tokens)
        return parse_reply(data, str(data.get("response") or ""))

    # ---------------------------------------------------------------- names

    def _must_exist(self, name: str) -> None:
        if not self.exists(name):
            raise self._no_such_model(name)

    @contextlib.contextmanager
    def _known(self, model: str) -> Iterator[None]:
        """Turn the server's 404 into the names it does have."""
        try:
            yield
        except ServerError as error:
            if error.status == 404 or re.search(r"model .*not found", error.words):
                raise self._no_such_model(model) from error
            raise

    def _no_such_model(self, name: str) -> UsageError:
        have = sorted(self.models())
        near = difflib.get_close_matches(canonical_name(name), have, n=3, cutoff=0.5)
        why = f"it has {', '.join(near or have[:5]) or 'no model at all'}"
        fix = f"use {near[0]}" if near else f"ollama pull {name}  # or: ollama list"
        return UsageError(f"Ollama at {self.host} has no model {name!r}", why, fix)


def _check_file(path: Path) -> Path:
    if not os.access(path, os.R_OK) or not path.is_file():
        raise UsageError(f"cannot read {path}", "no such file, or no permission", f"ls -l {path}")
    return path
