"""Types per tensor against what llama-quantize chose, and what is said about replaced ones.

golden/mixes.json holds llama-quantize's choices (llama.cpp build 11434) for models of these shapes,
written as runs over the layers; test_quants_llama_quantize.py makes them again where a build is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Kind
from gguf_shapes import Shapes, model_shapes

from converters.errors import ConvertError
from converters.quants.fallbacks import fallbacks
from converters.quants.mix import ModelFacts, plan
from converters.quants.types import FILE_TYPES, file_type

GOLDEN = json.loads((Path(__file__).parent / "golden" / "mixes.json").read_text())
MIXES = [name for name in FILE_TYPES if name not in ("F32", "F16", "BF16", "Q8_0")]


def case(name: str) -> tuple[Shapes, ModelFacts]:
    """Shapes and facts of a golden model."""
    model = dict(GOLDEN[name]["model"])
    facts = ModelFacts(*(model.pop(key) for key in ("arch", "n_layer", "n_head", "n_head_kv")))
    facts = ModelFacts(facts.arch, facts.n_layer, facts.n_head, facts.n_head_kv, model["n_expert"])
    return model_shapes(facts.n_layer, model.pop("width"), model.pop("ffn"), **model), facts


def runs(kinds: dict[str, Kind]) -> dict[str, str]:
    """Types per role, as runs over the layers in output order; what stays F32 is left out."""
    roles: dict[str, list[list]] = {}
    for name, kind in kinds.items():
        role = name.split(".", 2)[2] if name.startswith("blk.") else name
        found = roles.setdefault(role.removesuffix(".weight"), [])
        if found and found[-1][0] == kind.name:
            found[-1][1] += 1
        else:
            found.append([kind.name, 1])
    return {
        role: " ".join(kind if n == 1 else f"{n}*{kind}" for kind, n in found)
        for role, found in roles.items()
        if found[0][0] != "F32"
    }


@pytest.mark.oracle
@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("importance", [False, True])
def test_plan_is_llama_quantizes(name, importance):
    shapes, facts = case(name)
    golden = GOLDEN[name]["types"]
    for mix in MIXES:
        expected = golden[mix]
        if importance:
            expected = golden.get(mix + " +importance", expected)
        assert runs(plan(mix, shapes, facts, with_importance=importance)) == expected, mix


def test_llama_28_layers():
    """Facts read off `llama-quantize --dry-run`, not through our own oracle."""
    shapes, facts = case("llama 28 layers, tied, G=4")
    kinds = plan("Q4_K_M", shapes, facts)
    six = [i for i in range(28) if kinds[f"blk.{i}.ffn_down.weight"] == Kind.Q6_K]
    assert six == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert kinds["token_embd.weight"] == Kind.Q6_K
    assert kinds["blk.0.attn_norm.weight"] == Kind.F32
    assert next(iter(kinds)) == "output_norm.weight"


@pytest.mark.parametrize("outtype", ["F32", "F16", "BF16", "Q8_0"])
def test_plain_types_follow_the_converter(outtype):
    shapes, facts = case("mixtral, 8 experts")
    kinds = plan(outtype, shapes, facts)
    assert kinds["blk.0.ffn_down_exps.weight"] == kinds["output.weight"] == Kind[outtype]
    assert kinds["blk.0.ffn_gate_inp.weight"] == kinds["output_norm.weight"] == Kind.F32


def test_aliases_and_unknown_names():
    assert [file_type(name).name for name in ("q4_k", "Q5_K", "Q3_K")] == [
        "Q4_K_M",
        "Q5_K_M",
        "Q3_K_M",
    ]
    with pytest.raises(ConvertError, match="Q4_K_XXL"):
        file_type("Q4_K_XXL")


def smollm2_135m() -> tuple[Shapes, ModelFacts]:
    shapes: Shapes = {"token_embd.weight": (49152, 576), "output_norm.weight": (576,)}
    for i in range(30):
        shapes |= {
            f"blk.{i}.attn_q.weight": (576, 576),
            f"blk.{i}.attn_k.weight": (192, 576),
            f"blk.{i}.attn_v.weight": (192, 576),
            f"blk.{i}.attn_output.weight": (576, 576),
            f"blk.{i}.ffn_gate.weight": (1536, 576),
            f"blk.{i}.ffn_up.weight": (1536, 576),
            f"blk.{i}.ffn_down.weight": (576, 1536),
        }
    return shapes, ModelFacts("llama", 30, 9, 3)


def test_fallbacks_are_said():
    found = fallbacks("q4_k_m", *smollm2_135m())
    assert found.bits == pytest.approx(6.17, abs=0.02)  # llama-quantize says 6.17 BPW
    assert (found.as_exact, found.as_small) == ("Q5_0", "IQ4_NL")
    assert len(found.replaced) == 181
    embedding = found.replaced[0]
    assert (embedding.name, embedding.wanted, embedding.got, embedding.n_cols) == (
        "token_embd.weight",
        Kind.Q6_K,
        Kind.Q8_0,
        576,
    )
    assert found.sentence.startswith(
        "Q4_K_M of this model is really 6.2 bits per weight, not 5.1: rows of 576 do not divide "
        "into blocks of 256, so 181 of 211 tensors become Q5_0 or Q8_0"
    )


@pytest.mark.parametrize("outtype", FILE_TYPES)
def test_nothing_to_say_where_columns_fit(outtype):
    found = fallbacks(outtype, *case("llama 28 layers, tied, G=4"))
    assert (found.replaced, found.sentence, found.as_exact, found.as_small) == ((), "", "", "")
    assert found.bits == found.bits_expected


def test_rows_of_no_block_become_f16():
    shapes, facts = case("odd columns")
    found = fallbacks("Q4_K_M", shapes, facts)
    assert {t.got for t in found.replaced if t.n_cols == 80} == {Kind.F16}
    assert "F16" in found.sentence
