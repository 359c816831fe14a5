"""CPU seconds and peak memory of `python -m converters adapter`, the whole process.

Makes its own input with numpy: a rank-16 adapter on all seven linears of a Llama of 28 layers,
1024 wide (39.5 MB), and the base's config.json. Nothing is downloaded and no torch is needed.

    python benchmarks/adapter.py [--runs 3] [--outtype F16]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

N_LAYERS, WIDTH, INNER, RANK = 28, 1024, 4096, 16
SHAPES = {  # n_out, n_in
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH // 4, WIDTH),
    "self_attn.v_proj": (WIDTH // 4, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}


def main() -> None:
    """Print one line per run and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--outtype", default="F16")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_input(options.make)
        return
    with tempfile.TemporaryDirectory() as folder:
        # in a process of its own: a child's peak memory counts from its parent's
        subprocess.run([sys.executable, __file__, "--make", folder], check=True)
        base, adapter = Path(folder, "base"), Path(folder, "adapter")
        size = (adapter / "adapter_model.safetensors").stat().st_size
        print(f"adapter: {size / 1e6:.1f} MB, {options.outtype}")
        runs = [measure(base, adapter, options.outtype) for _ in range(options.runs)]
    for cpu, peak in runs:
        print(f"  {cpu:.2f} CPU s, peak RSS {peak:.0f} MB")
    cpu, peak = (statistics.median(run[i] for run in runs) for i in (0, 1))
    print(f"median: {cpu:.2f} CPU s, peak RSS {peak:.0f} MB")


def make_input(folder: Path) -> None:
    """The base's config.json and the adapter, in the folders `base` and `adapter`."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    adapter.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
    (base / "config.json").write_text(json.dumps(config))
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": list(SHAPES)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    save(adapter / "adapter_model.safetensors")


def save(path: Path) -> None:
    """Random factors in the safetensors layout."""
    import numpy as np

    draw = np.random.default_rng(0)
    header: dict[str, object] = {}
    data = bytearray()
    for layer in range(N_LAYERS):
        for module, (n_out, n_in) in SHAPES.items():
            for part, shape in (("A", (RANK, n_in)), ("B", (n_out, RANK))):
                raw = draw.normal(0, 0.01, shape).astype("<f4").tobytes()
                key = f"base_model.model.model.layers.{layer}.{module}.lora_{part}.weight"
                offsets = [len(data), len(data) + len(raw)]
                header[key] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
                data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def measure(base: Path, adapter: Path, outtype: str) -> tuple[float, float]:
    """User and system CPU seconds, and the peak resident megabytes, of one process."""
    out = str(adapter.parent / "adapter.gguf")
    command = [sys.executable, "-m", "converters", "adapter", str(adapter), str(base), out]
    process = subprocess.Popen(
        [*command, "--outtype", outtype],
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the export failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
