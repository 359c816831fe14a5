"""Ollama's two small languages: model names and OLLAMA_HOST.

Names: rules of ollama types/model/name.go, `[host/][namespace/]model[:tag]`. They are checked here,
before training, because the server says only "invalid model name" and says it at the very end.
Hosts: rules of ollama envconfig/config.go `Host`, except that a wrong port is an error here, where
Ollama logs a warning and goes on with another port.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from ft2ollama.errors import UsageError

DEFAULT_PORT = 11434
_DEFAULT_HOST = "registry.ollama.ai"
_DEFAULT_NAMESPACE = "library"
# Characters after the first one; greatest length in bytes (name.go isValidPart, isValidLen).
_PARTS = {
    "host": ("-_.:", 350),
    "namespace": ("-_", 80),
    "model": ("-_.", 80),
    "tag": ("-_.", 80),
}
# Since 0.15 these tags choose where a model runs and are taken off the name
# (ollama internal/modelref/modelref.go): a model published as `x:local` could not be found as such.
_SOURCE_TAG = re.compile(r"(?i:local|cloud|.*-cloud)")


def check_name(name: str) -> None:
    """Raise UsageError when Ollama would refuse `name`, or read it as something else.

    The error names the part and the character, and proposes a name that is valid.
    """
    for part, text in split_name(name).items():
        if reason := _fault(part, text):
            raise UsageError(
                f"{name!r} is not a valid Ollama model name", reason, f"use {_suggest(name)}"
            )
    tag = split_name(name)["tag"]
    if _SOURCE_TAG.fullmatch(tag):
        raise UsageError(
            f"{name!r} cannot be published",
            f"newer Ollama reads the tag {tag!r} as the place where the model runs, not as a name",
            f"use {_suggest(name)}",
        )


def split_name(name: str) -> dict[str, str]:
    """Cut a name into host, namespace, model and tag; parts not given get Ollama's defaults.

    Same order as name.go ParseNameBare: tag after the last colon that follows the last slash, then
    from the right. A separator with nothing before or after it gives an empty part: invalid.
    """
    parts = {"host": _DEFAULT_HOST, "namespace": _DEFAULT_NAMESPACE, "model": "", "tag": "latest"}
    if name.rfind(":") > name.rfind("/"):
        name, _, parts["tag"] = name.rpartition(":")
    rest, slash, parts["model"] = name.rpartition("/")
    if slash:
        rest, slash, parts["namespace"] = rest.rpartition("/")
        if slash:
            parts["host"] = rest.split("://", 1)[-1]
    return parts


def canonical_name(name: str) -> str:
    """The name as /api/tags lists it (name.go DisplayShortest): `smol` -> `smol:latest`."""
    parts = split_name(name)
    shown = f"{parts['model']}:{parts['tag']}"
    if parts["host"].lower() != _DEFAULT_HOST:
        return f"{parts['host']}/{parts['namespace']}/{shown}"
    if parts["namespace"].lower() != _DEFAULT_NAMESPACE:
        return f"{parts['namespace']}/{shown}"
    return shown


def server_url(host: str | None = None) -> str:
    """URL to talk to: `host`, else OLLAMA_HOST, else http://127.0.0.1:11434.

    Takes what Ollama takes: "0.0.0.0", ":11434", "host:port", "[::1]:80", "https://host/path".
    The any-address, which a server listens on, becomes the loopback address that a client can call.
    """
    given = (os.environ.get("OLLAMA_HOST", "") if host is None else host).strip(" \t\r\n\"'")
    scheme, has_scheme, rest = given.rpartition("://")
    scheme = scheme if has_scheme else "http"
    default = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if has_scheme else DEFAULT_PORT
    rest = f"[{rest}]" if rest.count(":") > 1 and not rest.startswith("[") else rest
    try:
        split = urlsplit(f"{scheme}://{rest}")
        name, port = split.hostname or "", split.port or default
    except ValueError as error:
        raise UsageError(
            f"OLLAMA_HOST={given!r} is not an address",
            f"{error}",
            f"export OLLAMA_HOST=127.0.0.1:{DEFAULT_PORT}",
        ) from error
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    netloc = f"[{name}]" if ":" in name else name
    return f"{scheme}://{netloc}:{port}{split.path.rstrip('/')}"


def is_loopback(url: str) -> bool:
    """True when the URL's host is this machine's loopback interface."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _fault(part: str, text: str) -> str:
    allowed, longest = _PARTS[part]
    if not text:
        return f"the {part} is empty"
    if (size := len(text.encode())) > longest:
        return f"the {part} has {size} bytes; at most {longest} are allowed"
    for i, char in enumerate(text):
        if char.isascii() and (char.isalnum() or char == "_" or (i and char in allowed)):
            continue
        if i == 0 and char in allowed:
            return f"the {part} starts with {char!r}; it must start with a letter, a digit or '_'"
        legal = f"letters a-z, digits and {' '.join(allowed)}"
        return f"{char!r} is not allowed in the {part}: only {legal}"
    return ""


def _suggest(name: str) -> str:
    """Build a valid name from the usable characters; a Chinese name leaves none, hence my-model."""
    had_tag = name.rfind(":") > name.rfind("/")
    parts = split_name(name)
    shown = {
        part: re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-._")[:80].rstrip("-._")
        for part, text in parts.items()
    }
    tag = re.sub("(^|-)(cloud|local)$", "", shown["tag"]) if had_tag else ""
    model = f"{shown['model'] or 'my-model'}{':' + tag if tag else ''}"
    namespace = shown["namespace"].replace(".", "-")
    if "/" not in name or not namespace or namespace == _DEFAULT_NAMESPACE:
        return model
    return f"{namespace}/{model}"
