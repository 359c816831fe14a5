"""Every id that ends an answer ends it in llama.cpp, which reads no lists."""

from __future__ import annotations

import pytest

import converters
from converters.errors import ConvertError
from converters.special_ids import special_ids
from converters.token_table import Tokens


def tokens(*texts):
    return Tokens("gpt2", "gpt-2", texts, [3] * len(texts))


TEXTS = ("<s>", "</s>", "<a>", "<b>", "<c>", "<d>", "<|im_end|>", "<|eom_id|>", "<|end|>")


@pytest.mark.parametrize(
    ("settings", "config", "generation", "ids", "ends"),
    [
        ({"eos_token": "</s>"}, {}, {}, {"eos": 1, "eot": 6, "eom": 7}, (1,)),
        ({"eos_token": {"content": "<|im_end|>"}}, {}, {}, {"eos": 6, "eot": 8, "eom": 7}, (6,)),
        ({}, {"eos_token_id": [3, 2]}, {}, {"eos": 3, "eot": 2, "eom": 7}, (3, 2)),
        (
            {},
            {"eos_token_id": 3},
            {"eos_token_id": [2, 9, 4]},
            {"eos": 3, "eot": 2, "eom": 4},
            (2, 4),
        ),
        (
            {"eos_token": "</s>"},
            {},
            {"eos_token_id": [1, 6]},
            {"eos": 1, "eot": 6, "eom": 7},
            (1, 6),
        ),
        ({"eos_token": "no"}, {"eos_token_id": True}, {"eos_token_id": 5}, {"eos": 5}, (5,)),
    ],
)
def test_roles(settings, config, generation, ids, ends):
    found = special_ids(tokens(*TEXTS), settings, config, generation)
    assert ids.items() <= found.ids.items()
    assert found.ends == ends


def test_ends_without_a_role_are_noted():
    found = special_ids(tokens(*TEXTS), {}, {"eos_token_id": [2, 3, 4, 5, 6]}, {})
    assert (found.ids["eos"], found.ids["eot"], found.ids["eom"]) == (2, 3, 4)
    assert len(found.notes) == 1
    assert "'<d>'" in found.notes[0]


def test_taken_back_ends_need_a_role():
    """llama.cpp does not stop at <|end|> where there are <|return|> and <|call|> (gpt-oss)."""
    harmony = tokens("<|end|>", "<|return|>", "<|call|>", "x")
    assert "eot" not in special_ids(harmony, {}, {"eos_token_id": [1, 2]}, {}).ids
    assert special_ids(harmony, {}, {"eos_token_id": [1, 0]}, {}).ids["eot"] == 0


def test_without_an_end_nothing_is_written():
    """The runtime would take id 11 for it, whatever that is."""
    with pytest.raises(ConvertError, match="ends an answer") as caught:
        special_ids(tokens(*TEXTS), {}, {"eos_token_id": 99}, {"eos_token_id": []})
    assert "eos_token" in caught.value.fix


@pytest.mark.oracle
def test_three_ends_stop_generation(make_base, judge, tmp_path):
    """Each of three ids that llama.cpp knows by no text, forced as the next token, ends it."""
    import shutil

    base = shutil.copytree(make_base(), tmp_path / "base")
    (base / "generation_config.json").write_text('{"eos_token_id": [2, 40, 50]}')
    converters.write_model(base, tmp_path / "m.gguf", outtype="F32")
    server = judge.runtime(tmp_path / "m.gguf")._server
    for forced, stops in ((2, True), (40, True), (50, True), (60, False)):
        body = {"prompt": [5], "n_predict": 3, "logit_bias": [[forced, 1e4]], "temperature": 0}
        answer = server.handle_completions(body)
        assert (answer["choices"][0]["finish_reason"] == "stop") is stops, forced
