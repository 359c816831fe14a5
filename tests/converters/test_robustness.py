"""Damaged and hostile input: a ConvertError or a sound file, in bounded memory and time.

Every case is made by a seeded generator from a sound tiny model, so a failure names the case and
happens again.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import converters
from converters.check_file import check_file
from converters.errors import ConvertError

Case = tuple[str, Callable[[Path], None]]  # what is done to a copy of the folder
SECONDS = 20  # for one case; each takes milliseconds
MEMORY = 1 << 30  # address space that one case may add
ODD = (None, "", "x", "\ud800", -1, 0, 1.5, 10**30, True, [], {}, [[]], {"a": {}}, "../../x")


@contextmanager
def bounded() -> Iterator[None]:
    """No more memory than now plus MEMORY, and an alarm against hanging."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(autouse=True)
def _alarm():
    def ring(*_: object) -> None:
        raise AssertionError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


def survive(
    cases: Iterator[Case], source: Path, work: Path, use: Callable[[Path, Path], None]
) -> tuple[list[str], list[str]]:
    """Damage a copy of `source`, use it; whatever is not an error or a sound file fails.

    Returns the names of the cases that were refused, and of those that did no harm.
    """
    escaped, refused, harmless = [], [], []
    for name, damage in cases:
        copy, out = work / "in", work / "out"
        shutil.copytree(source, copy)
        out.mkdir()
        damage(copy)
        try:
            with bounded():
                use(copy, out)
            harmless.append(name)
        except ConvertError:
            refused.append(name)
            if list(out.iterdir()):
                escaped.append(f"{name}: refused, and left {list(out.iterdir())}")
        except Exception as error:  # noqa: BLE001 - any other kind is what we look for
            escaped.append(f"{name}: {type(error).__name__}: {error}")
        shutil.rmtree(copy)
        shutil.rmtree(out)
    assert not escaped, "\n".join(escaped)
    return refused, harmless


def _write_model(folder: Path, out: Path) -> None:
    """Every way in that reads the model folder and the adapter in it."""
    adapter = folder / "adapter"
    converters.write_model(folder, out / "m.gguf", adapter=adapter if adapter.is_dir() else None)
    check_file(out / "m.gguf")


def _header(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _put_header(path: Path, header: object, body: bytes) -> None:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def safetensors_cases(file: str) -> Iterator[Case]:
    """Truncations, lengths, offsets, shapes, types and names of one safetensors file."""
    for part in (0, 1e-5, 1e-4, 0.003, 0.01, 0.1, 0.5, 0.9, 0.999):
        yield f"cut to {part}", _cut(file, part)
    for value in (0, 1, 2, 7, 100, 1 << 20, 1 << 40, (1 << 64) - 1):
        yield f"header length {value}", _put(file, [0], 8, value)
    for whole in (b"[]", b"null", b'"x"', b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a":1,"a":2}'):
        yield f"header {whole[:12]!r}", _edit(file, lambda h, n, w=whole: w)
    for name in ("../../etc/x", "/abs", "a\x00b", "x" * 5000, "\x1b[2J", "con", "", "．．/x"):
        yield f"tensor {name[:20]!r}", _edit(file, lambda h, n, x=name: h.update({x: h.pop(n[0])}))
    for field, value in _header_values():
        yield (
            f"{field} = {value!r}",
            _edit(file, lambda h, n, f=field, v=value: h[n[1]].update({f: v})),
        )
    for field in ("dtype", "shape", "data_offsets"):
        yield f"no {field}", _edit(file, lambda h, n, f=field: h[n[1]].pop(f) and None)
    yield "overlap", _edit(file, _overlap)


def _overlap(header: dict, names: list[str]) -> None:
    """Two tensors of one shape share their bytes: everything else about them is right."""
    by_shape: dict[str, str] = {}
    for name in names:
        twin = by_shape.setdefault(str(header[name]["shape"]), name)
        if twin != name:
            header[name] = header[twin]
            return


def _header_values() -> Iterator[tuple[str, object]]:
    for field in ("dtype", "shape", "data_offsets"):
        yield from ((field, value) for value in ODD)
    for shape in ([-64, -64], [1 << 62, 4], [64], [64, 64, 1], [4096], [0, 64], [[64], 64]):
        yield "shape", shape
    for offsets in ([5, 1], [-4, 4], [0, 1 << 62], [0], [0, 1, 2], ["0", "4"], [0.0, 4.0]):
        yield "data_offsets", offsets
    for dtype in ("I8", "F8_E4M3", "BOOL", "bf16", "U8", "F64"):
        yield "dtype", dtype


def _cut(file: str, part: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * part)])

    return damage


def _put(file: str, places: list[int], size: int, value: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / file).read_bytes())
        for place in places:
            data[place : place + size] = value.to_bytes(size, "little")
        (folder / file).write_bytes(data)

    return damage


def _edit(file: str, change: Callable[[dict, list[str]], object]) -> Callable[[Path], None]:
    """change(header, names) edits the header of a safetensors file, or returns another one."""

    def damage(folder: Path) -> None:
        header, body = _header(folder / file)
        names = sorted(name for name in header if name != "__metadata__")
        _put_header(folder / file, change(header, names) or header, body)

    return damage


def json_cases(file: str, seed: int, count: int) -> Iterator[Case]:
    """Random values of a JSON file replaced by odd ones, removed, or repeated under odd keys."""
    generator = random.Random(seed)
    for number in range(count):
        yield f"{file} {seed}/{number}", _json_damage(file, generator.randrange(1 << 30))
    for text in (b"", b"{", b"[]", b"\xff", b'{"a":' * 50_000, b"\xef\xbb\xbf{}", b"nul"):
        yield f"{file} is {text[:10]!r}", lambda folder, t=text: (folder / file).write_bytes(t)
    yield f"no {file}", lambda folder: (folder / file).unlink()


def _json_damage(file: str, seed: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        generator = random.Random(seed)
        value = json.loads((folder / file).read_text())
        places = list(_places(value))
        for _ in range(generator.choice((1, 1, 1, 3))):
            holder, key = generator.choice(places)
            if generator.random() < 0.2 and isinstance(holder, dict):
                holder.pop(key, None)
            elif not isinstance(holder, list) or key < len(holder):
                holder[key] = generator.choice(ODD)
        (folder / file).write_text(json.dumps(value))

    return damage


def _places(value: object) -> Iterator[tuple]:
    """(container, key) of the values in a JSON document, few of each long container."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items)[:24]:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def index_cases() -> Iterator[Case]:
    """The index of a sharded model."""
    for file in (*ODD, "missing.safetensors", "/etc/passwd", "..", ".", "a\x00b", "config.json"):

        def damage(folder: Path, file: object = file) -> None:
            header, _ = _header(folder / "model.safetensors")
            weight_map = dict.fromkeys(header, "model.safetensors")
            weight_map[sorted(header)[-1]] = file
            weight_map.pop("__metadata__", None)
            (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": weight_map})
            )

        yield f"shard {file!r}", damage
    for whole in ODD:

        def replace(folder: Path, whole: object = whole) -> None:
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": whole}))

        yield f"weight_map {whole!r}", replace


def value_cases(file: str) -> Iterator[Case]:
    """NaN and infinities at random places."""
    generator = random.Random(5)
    for number in range(9):
        value = (np.nan, np.inf, -np.inf)[number % 3]

        def damage(folder: Path, value: float = value, place: float = generator.random()) -> None:
            header, body = _header(folder / file)
            data = np.frombuffer(body, np.float32).copy()
            data[int(place * len(data))] = value
            _put_header(folder / file, header, data.tobytes())

        yield f"{file}: {value} {number}", damage


@pytest.fixture(scope="module")
def folder(make_base, make_adapter, tmp_path_factory):
    """A model folder with an adapter folder in it."""
    work = tmp_path_factory.mktemp("sound") / "m"
    base = make_base(num_hidden_layers=1)
    shutil.copytree(base, work)
    shutil.copytree(make_adapter(base), work / "adapter")
    return work


@pytest.mark.parametrize("file", ["model.safetensors", "adapter/adapter_model.safetensors"])
def test_weights_files(file, folder, tmp_path):
    refused, harmless = survive(safetensors_cases(file), folder, tmp_path, _write_model)
    assert len(refused) > 80
    assert harmless == []


@pytest.mark.parametrize("file", ["model.safetensors", "adapter/adapter_model.safetensors"])
def test_weights_that_are_no_numbers(file, folder, tmp_path):
    _, harmless = survive(value_cases(file), folder, tmp_path, _write_model)
    assert harmless == []


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("config.json", 60),
        ("tokenizer.json", 60),
        ("tokenizer_config.json", 20),
        ("adapter/adapter_config.json", 40),
    ],
)
def test_json_files(file, count, folder, tmp_path):
    refused, _ = survive(json_cases(file, 1, count), folder, tmp_path, _write_model)
    assert len(refused) > 5


def test_index_of_the_shards(folder, tmp_path):
    _, harmless = survive(index_cases(), folder, tmp_path, _write_model)
    assert harmless == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("vocab_size", 10**12),
        ("num_attention_heads", 10**9),
        ("num_key_value_heads", 2**40),
        ("head_dim", 2**40),
        ("hidden_size", 10**15),
        ("rope_parameters", {"rope_theta": 1e4, "rope_type": "linear", "factor": "x"}),
        ("rope_parameters", {"rope_theta": [], "rope_type": ["linear"]}),
        ("rope_parameters", ["linear"]),
        ("rms_norm_eps", float("nan")),
        ("architectures", "LlamaForCausalLM"),
        ("architectures", [["LlamaForCausalLM"]]),
        ("text_config", {"text_config": {"text_config": {}}}),
    ],
)
def test_config_with_absurd_settings(key, value, folder, tmp_path):
    def damage(copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {key: value}))

    survive(iter([(key, damage)]), folder, tmp_path, _write_model)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\x00"])
def test_vocabulary_that_is_no_utf8(text, folder, tmp_path):
    def damage(copy: Path) -> None:
        data = (copy / "tokenizer.json").read_bytes()
        assert b"endoftext" in data
        (copy / "tokenizer.json").write_bytes(data.replace(b"endoftext", text))

    refused, _ = survive(iter([("vocabulary", damage)]), folder, tmp_path, _write_model)
    assert refused


def gguf_cases() -> Iterator[Case]:
    """Cuts, flipped bytes and absurd numbers in the header of a GGUF file."""
    generator = random.Random(9)
    for _ in range(15):
        yield "cut", _cut("m.gguf", generator.random() ** 3)
    for at in (8, 16):
        for value in (0, 1, 1 << 20, 1 << 40, (1 << 64) - 1):
            yield f"count at {at}: {value}", _put("m.gguf", [at], 8, value)
    for _ in range(60):
        places = [generator.randrange(4, 9000) for _ in range(generator.choice((1, 2, 5)))]
        yield f"bytes {places}", _put("m.gguf", places, 1, generator.randrange(256))
    for number in range(30):
        value = generator.choice((0, 1 << 31, 1 << 62, (1 << 64) - 1))
        yield f"number {number}", _put("m.gguf", [generator.randrange(24, 9000)], 8, value)


@pytest.fixture(scope="module")
def files(folder, tmp_path_factory):
    """A folder with a model GGUF and an adapter GGUF, headers of some 9000 bytes."""
    out = tmp_path_factory.mktemp("gguf") / "files"
    out.mkdir()
    converters.write_model(folder, out / "m.gguf", outtype="F16")
    converters.write_adapter(folder / "adapter", folder, out / "a.gguf")
    return out


def _check_and_unpack(files: Path, out: Path) -> None:
    check_file(files / "m.gguf")
    check_file(files / "a.gguf", files / "m.gguf")
    converters.gguf_to_safetensors(files / "m.gguf", out / "hf")


def _quantize(files: Path, out: Path) -> None:
    converters.quantize(files / "m.gguf", out / "q.gguf", "Q8_0")
    converters.read_gguf(out / "q.gguf")


@pytest.mark.parametrize("use", [_check_and_unpack, _quantize])
def test_gguf_files(use, files, tmp_path):
    refused, harmless = survive(gguf_cases(), files, tmp_path, use)
    assert len(refused) + len(harmless) > 100
    assert len(refused) > 30
