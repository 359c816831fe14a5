"""The container: nothing unfinished under the final name, whatever happens while writing."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import gguf
import numpy as np
import pytest

from converters import metadata, writer
from converters.errors import ConvertError
from converters.writer import Tensor

ROOT = Path(__file__).parents[2]


def tensor(name, array):
    return Tensor(
        name, array.shape, gguf.GGMLQuantizationType.F32, lambda: iter([array.view(np.uint8)])
    )


@pytest.mark.oracle
def test_gguf_py_reads_every_kind_of_pair(tmp_path):
    pairs = [
        metadata.string("general.architecture", "llama"),
        metadata.u32("a.u32", 4_000_000_000),
        metadata.f32("a.f32", 0.1),
        metadata.boolean("a.yes", True),
        metadata.boolean("a.no", False),
        metadata.strings("a.texts", ["", "größe", "你好"]),
        metadata.i32s("a.ints", [-1, 2, 3]),
        metadata.f32s("a.floats", [0.5, -1.5]),
    ]
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.write(tmp_path / "x.gguf", pairs, [tensor("t", values)])
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    read = {key: field.contents() for key, field in reader.fields.items()}
    for pair in pairs:
        assert read[pair.key] == pytest.approx(pair.value) or read[pair.key] == pair.value
    assert reader.tensors[0].shape.tolist() == [3, 2]
    assert np.array_equal(reader.tensors[0].data, values)


def test_canonical_order():
    names = ["blk.10.a", "blk.2.b", "token_embd.weight", "blk.2.a", "output.weight", "blk.0.z"]
    ordered = ["output.weight", "token_embd.weight", "blk.0.z", "blk.2.a", "blk.2.b", "blk.10.a"]
    assert sorted(names, key=writer.canonical_order) == ordered


def test_wrong_size_and_long_names_are_caught(tmp_path):
    short = Tensor("t", (4, 4), gguf.GGMLQuantizationType.F32, lambda: iter([np.zeros(3, "u1")]))
    with pytest.raises(ConvertError, match="wrong size"):
        writer.write(tmp_path / "x.gguf", [], [short])
    with pytest.raises(ConvertError, match="too long"):
        writer.write(tmp_path / "x.gguf", [], [tensor("t" * 64, np.zeros(4, np.float32))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_write_leaves_the_old_file(error, tmp_path):
    out = tmp_path / "x.gguf"
    out.write_bytes(b"old")

    def fail():
        yield np.zeros(16, np.uint8)
        assert (tmp_path / "x.gguf.part").exists()
        raise error

    with pytest.raises(error):
        writer.write(out, [], [Tensor("t", (8,), gguf.GGMLQuantizationType.F32, fail)])
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


def test_disk_without_room_is_refused_before_the_first_byte(tmp_path):
    huge = Tensor("t", (1 << 50,), gguf.GGMLQuantizationType.F32, lambda: iter(()))
    with pytest.raises(ConvertError, match="not enough disk space") as caught:
        writer.write(tmp_path / "x.gguf", [], [huge])
    assert f"{((1 << 52) + 64) / 1e6:,.1f} MB needed, " in caught.value.why  # 4 bytes each + header
    assert " MB free in " in caught.value.why
    assert not list(tmp_path.iterdir())


def _child(code: str, *args: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_disk_that_fills_up_while_writing(base, tmp_path):
    """RLIMIT_FSIZE makes the kernel refuse the write half-way, as a full disk would (EFBIG)."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    child = _child(
        """
        import sys
        from converters.__main__ import main
        sys.exit(main(["model", sys.argv[1], sys.argv[2], "--outtype", "F32"]))
        """,
        str(base),
        str(tmp_path / "x.gguf"),
        preexec_fn=limit,
    )
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1, errors
    assert "not enough disk space" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_kill_leaves_nothing_under_the_final_name(base, tmp_path):
    out = tmp_path / "x.gguf"
    child = _child(
        """
        import sys, time
        from pathlib import Path
        import converters
        def slow(done, total):
            print(done, flush=True)
            time.sleep(0.2 if done > 60000 else 0)
        converters.write_model(Path(sys.argv[1]), Path(sys.argv[2]), progress=slow)
        """,
        str(base),
        str(out),
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) > 60_000:
            break
    child.kill()
    child.wait(timeout=30)
    child.stdout.close()
    child.stderr.close()
    assert child.returncode == -signal.SIGKILL
    assert not out.exists()
    assert (tmp_path / "x.gguf.part").exists()

    import converters  # the next run is not in the way of the old .part

    converters.write_model(base, out)
    converters.check_gguf(out)
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]
