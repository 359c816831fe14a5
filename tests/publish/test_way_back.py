"""Where a rollback goes, and NAME:previous, which keeps the way open: on a real Ollama."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ft2ollama.aliases import digest_of, move_alias
from ft2ollama.errors import UsageError
from ft2ollama.ollama_api import Ollama
from ft2ollama.ollama_server import Server
from ft2ollama.publish import public_names
from ft2ollama.runs import Run
from ft2ollama.versions import delete_superfluous, history, previous_name, record_move
from ft2ollama.way_back import find_way, keep_previous, rollback

pytestmark = pytest.mark.ollama
_number = itertools.count()
Publish = Callable[[int], str]


@pytest.fixture
def model(ollama: Ollama, ollama_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name of this test's own; everything under it goes afterwards."""
    monkeypatch.setenv("OLLAMA_MODELS", str(ollama_server.models))
    name = f"kiosk{next(_number)}"
    yield name
    for have in ollama.models():
        if have.startswith(f"{name}:"):
            ollama.delete(have)


@pytest.fixture
def publish(ollama: Ollama, smol: str, model: str) -> Publish:
    """publish(n) makes version n and moves NAME:latest to it, as `ft2ollama publish` does."""

    def make(number: int) -> str:
        tag = f"{model}:2026010{number}-120000-run"
        ollama.create(tag, from_=smol, system=f"Version {number} of {model}.")
        keep_previous(ollama, model, tag)
        move = move_alias(ollama, model, tag, expected=digest_of(ollama, model))
        record_move(ollama, move, action="publish", run=f"run-{number}", proof="equal", forced="")
        return tag

    return make


def systems(ollama: Ollama, model: str) -> tuple[str, str | None]:
    """The numbers of the versions that NAME:latest and NAME:previous are."""
    kept = f"{model}:previous"
    there = ollama.show(kept).system.split()[1] if digest_of(ollama, kept) else None
    return ollama.show(model).system.split()[1], there


def test_previous_is_what_the_name_was_and_no_version(
    ollama: Ollama, publish: Publish, model: str
) -> None:
    publish(1)
    assert systems(ollama, model) == ("1", None)
    tags = [publish(number) for number in (2, 3, 4)]
    assert systems(ollama, model) == ("4", "3")
    found = history(ollama, model)
    assert [version.tag for version in found][:3] == tags[::-1]
    assert [version.names for version in found] == [
        (f"{model}:latest",), (f"{model}:previous",), (), (),
    ]  # fmt: skip
    assert len(delete_superfluous(ollama, model, keep=1)) == 2  # 4 is live, 3 its way back
    assert [version.tag for version in history(ollama, model)] == [tags[2], tags[1]]
    assert rollback(ollama, model).tag == tags[1]
    assert systems(ollama, model) == ("3", None)


def test_nobody_is_sent_to_a_version_that_was_rolled_back_from(
    ollama: Ollama, publish: Publish, model: str
) -> None:
    tags = [publish(number) for number in (1, 2, 3)]
    assert rollback(ollama, model).tag == tags[1]
    assert systems(ollama, model) == ("2", "1")
    publish(4)
    publish(5)
    assert [version.withdrawn for version in history(ollama, model)] == [
        False, False, True, False, False,
    ]  # fmt: skip
    seen = [rollback(ollama, model).tag[-14:-11] for _ in range(3)]
    assert seen == ["104", "102", "101"]
    assert systems(ollama, model) == ("1", None)
    with pytest.raises(UsageError, match="oldest one here"):
        rollback(ollama, model)
    rollback(ollama, model, to=tags[2])  # a person may; then it is a version like others
    assert systems(ollama, model) == ("3", "1")
    assert not history(ollama, model)[2].withdrawn


def test_a_model_that_was_made_by_hand_is_not_lost(
    ollama: Ollama, smol: str, publish: Publish, model: str
) -> None:
    ollama.create(model, from_=smol, system="Version hand of mine.")
    tag = publish(1)
    assert systems(ollama, model) == ("1", "hand")
    assert rollback(ollama, model).tag == f"{model}:previous"
    assert ollama.show(model).system == "Version hand of mine."
    assert rollback(ollama, model, to=tag).tag == tag
    assert systems(ollama, model) == ("1", "hand")

    ollama.create(model, from_=smol, system="Version other of mine.")  # and by hand once more
    with pytest.raises(UsageError, match="has no version to go back to"):
        rollback(ollama, model)
    with pytest.raises(UsageError, match="no other name"):
        rollback(ollama, model, to="previous")
    assert systems(ollama, model) == ("other", "hand")


def test_after_the_first_version_comes_the_base(
    ollama: Ollama, smol: str, publish: Publish, model: str
) -> None:
    ollama.create(f"{model}:base", from_=smol, system="Version base of it.")
    tag = publish(1)
    assert systems(ollama, model) == ("1", "base")
    assert delete_superfluous(ollama, model, keep=1) == []
    assert find_way(ollama, model, "base").tag == f"{model}:base"
    assert rollback(ollama, model).tag == f"{model}:base"
    assert systems(ollama, model) == ("base", None)
    with pytest.raises(UsageError, match="has no version to go back to"):
        rollback(ollama, model)
    assert rollback(ollama, model, to="2026").tag == tag
    assert systems(ollama, model) == ("1", "base")
    assert [version.tag for version in history(ollama, model)] == [tag]


def test_a_name_that_was_moved_by_hand_goes_to_the_version_before(
    ollama: Ollama, publish: Publish, model: str
) -> None:
    tags = [publish(number) for number in (1, 2, 3)]
    ollama.copy(tags[1], model)
    assert systems(ollama, model) == ("2", "2")
    assert rollback(ollama, model).tag == tags[0]
    publish(4)
    ollama.copy(tags[1], model)  # previous is 1 still
    ollama.delete(tags[0])
    with pytest.raises(UsageError, match="oldest one here"):
        rollback(ollama, model)


def test_the_same_version_again_leaves_the_way_back(
    ollama: Ollama, publish: Publish, model: str
) -> None:
    publish(1)
    publish(2)
    publish(2)
    assert systems(ollama, model) == ("2", "1")


def test_each_public_name_has_its_own(ollama: Ollama, publish: Publish, model: str) -> None:
    assert previous_name(model) == f"{model}:previous"
    assert previous_name(f"{model}:prod") == f"{model}:prod-previous"
    with pytest.raises(UsageError, match="is kept by ft2ollama"):
        public_names(f"{model}:previous", Run(Path("runs/20260101-120000-x")))
    first, second = publish(1), publish(2)
    prod = f"{model}:prod"
    move_alias(ollama, prod, first, expected=None)
    keep_previous(ollama, prod, second)
    move_alias(ollama, prod, second, expected=digest_of(ollama, first))
    assert digest_of(ollama, f"{prod}-previous") == digest_of(ollama, first)
    assert systems(ollama, model) == ("2", "1")
