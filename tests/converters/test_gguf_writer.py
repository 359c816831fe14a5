"""The container: nothing unfinished under the final name, whatever happens while writing."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

import converters
from converters import metadata, writer
from converters.errors import ConvertError
from converters.jobs import available_threads, encoded, in_order
from converters.transforms import CHUNK_ELEMENTS, ArrayRows
from converters.writer import Tensor

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FT2OLLAMA_TEST_KILLS", "6"))


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


SLOW_WRITE = """
import sys, time
from pathlib import Path
import numpy as np, gguf
import converters
from converters import metadata, writer
rows = np.random.default_rng(0).standard_normal((64, 1024), np.float32).view(np.uint8)
def job():
    time.sleep(0.002)
    return rows
tensors = [
    writer.Tensor(f"t{n}", (640, 1024), gguf.GGMLQuantizationType.F32, lambda: [job] * 10)
    for n in range(6)
]
pairs = [metadata.string("general.architecture", "llama")]
print("ready", flush=True)
while True:
    writer.write(Path(sys.argv[1]), pairs, tensors, lambda done, total: print(done, flush=True), 2)
    Path(sys.argv[1]).rename(sys.argv[1] + ".done")
"""


def test_kill_at_random_moments_leaves_nothing_that_looks_finished(tmp_path):
    """The name holds a whole file or nothing; the next run is not in the way of the old .part."""
    out = tmp_path / "x.gguf"
    moments = random.Random(0)
    rows = np.random.default_rng(0).standard_normal((64, 1024), np.float32)
    cut = 0
    for _ in range(KILLS):
        child = _child(SLOW_WRITE, str(out))
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.15))
        child.kill()
        child.communicate(timeout=30)
        assert child.returncode == -signal.SIGKILL
        cut += (tmp_path / "x.gguf.part").exists()
        for whole in (out, tmp_path / "x.gguf.done"):
            if whole.exists():
                file = converters.read_gguf(whole)
                assert list(file.tensors) == [f"t{n}" for n in range(6)]
                assert file.raw("t5").reshape(10, -1)[-1].tobytes() == rows.tobytes()
                whole.unlink()
    assert cut > KILLS / 2  # most were killed while a file was being written


def test_interrupt_from_the_keyboard_stops_at_once(tmp_path):
    child = _child(SLOW_WRITE, str(tmp_path / "x.gguf"))
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdout.readline()
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - started < 5
    assert not (tmp_path / "x.gguf.part").exists()
    assert not (tmp_path / "x.gguf").exists()


def test_a_failing_chunk_stops_the_others(tmp_path):
    ran = []

    def job(number):
        ran.append(number)
        if number == 3:
            raise ConvertError("no", f"chunk {number}")
        return np.zeros(4, np.uint8)

    jobs = [lambda n=n: job(n) for n in range(1000)]
    bad = Tensor("t", (1000,), gguf.GGMLQuantizationType.F32, lambda: jobs)
    before = threading.active_count()
    with pytest.raises(ConvertError, match="chunk 3"):
        writer.write(tmp_path / "x.gguf", [], [bad], threads=2)
    assert len(ran) < 20
    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_bytes_and_digest_do_not_depend_on_the_threads(threads, tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_0
    arrays = {
        f"t{n}": np.random.default_rng(n).standard_normal((n * 100 + 1, 4096), np.float32)
        for n in range(10)
    }
    tensors = [
        Tensor(n, a.shape, kind, lambda n=n, a=a: encoded(ArrayRows(a), kind, n))
        for n, a in arrays.items()
    ]
    writer.write(tmp_path / "x.gguf", [], tensors, threads=threads)
    file = converters.read_gguf(tmp_path / "x.gguf")
    for name, array in arrays.items():
        assert file.raw(name).tobytes() == gguf.quantize(array, kind).tobytes()


def test_results_come_in_order_and_only_a_few_ahead():
    running, most = set(), [0]

    def job(number):
        running.add(number)
        time.sleep(0.001 * (number % 3))
        return number

    for tag, number in in_order(((n, lambda n=n: job(n)) for n in range(60)), threads=3):
        assert tag == number
        running.discard(number)
        most.append(len(running))
    assert max(most) <= 3 * 3


def test_jobs_are_row_chunks():
    rows = ArrayRows(np.zeros((3, CHUNK_ELEMENTS // 1024, 1024), np.float32))
    assert len(list(encoded(rows, gguf.GGMLQuantizationType.Q8_0, "t"))) == 3
    assert 1 <= available_threads() <= 16


def test_numpy_multiplies_on_one_thread_meanwhile():
    code = """
    import ctypes, numpy as np
    from converters.jobs import _openblas, one_blas_thread
    number, _ = _openblas()
    before = number()
    with one_blas_thread():
        print(before, number(), end=" ")
    print(number())
    """
    child = _child(code, env={**os.environ, "OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"})
    out, errors = child.communicate(timeout=30)
    assert errors == ""
    assert out.split()[1] == "1"
    assert out.split()[0] == out.split()[2]


def test_memory_is_that_of_the_chunks_and_not_of_the_tensors(tmp_path):
    """Half a gigabyte of float32 as Q8_0: the peak grows by far less."""
    code = """
    import resource, sys
    from pathlib import Path
    import numpy as np, gguf
    from converters import writer
    from converters.jobs import encoded
    class Rows:
        shape = (32768, 4096)
        def read(self, start, stop):
            return np.ones((stop - start, 4096), np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = peak()
    tensors = [writer.Tensor("t", Rows.shape, kind, lambda: encoded(Rows(), kind, "t"))]
    writer.write(Path(sys.argv[1]), [], tensors, threads=2)
    print((peak() - before) // 1024)
    """
    child = _child(code, str(tmp_path / "x.gguf"))
    out, errors = child.communicate(timeout=60)
    assert errors == ""
    assert int(out) < 100  # MiB
