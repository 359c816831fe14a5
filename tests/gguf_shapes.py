"""Tensor names and shapes of model families, with few rows: what `mix.plan` decides on."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def model_shapes(
    n_layer: int,
    width: int,
    ffn: int,
    *,
    tied: bool = False,
    n_expert: int = 0,
    fused_qkv: bool = False,
    shared_expert: bool = False,
    rows: int = 8,
) -> Shapes:
    """GGUF names -> shapes in numpy order; every matrix has `rows` rows."""
    shapes: Shapes = {"token_embd.weight": (rows, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (rows, width)
    attention = ["attn_qkv"] if fused_qkv else ["attn_q", "attn_k", "attn_v"]
    feed_forward = {"ffn_gate": width, "ffn_up": width, "ffn_down": ffn}
    for block in (f"blk.{i}." for i in range(n_layer)):
        shapes |= {f"{block}{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"{block}{name}.weight": (rows, width) for name in (*attention, "attn_output")}
        if not n_expert:
            shapes |= {f"{block}{name}.weight": (rows, n) for name, n in feed_forward.items()}
            continue
        shapes[block + "ffn_gate_inp.weight"] = (n_expert, width)
        for name, n in feed_forward.items():
            shapes[f"{block}{name}_exps.weight"] = (n_expert, rows, n)
            if shared_expert:
                shapes[f"{block}{name}_shexp.weight"] = (rows, n)
    return shapes
