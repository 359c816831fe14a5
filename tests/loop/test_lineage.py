"""From a model in Ollama to its rows and back, here and where nobody has its ledger.

The judge of the statement is the in-toto project's own Python package: its protobuf messages take
no field they do not know, and its `validate` wants what the specification requires.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cycle_rig import ANSWER, Rig

from ft2ollama.aliases import digest_of
from ft2ollama.files import sha256_file
from ft2ollama.loop import states
from ft2ollama.loop.lineage import ids_of
from ft2ollama.loop.place import Place
from ft2ollama.loop.statement import statement
from ft2ollama.loop.steps import detail_of
from ft2ollama.loop.swap import deployment_of
from ft2ollama.ollama_server import Server
from ft2ollama.prove.served import look

pytestmark = [pytest.mark.ollama, pytest.mark.slow]

PINNED = ("in-toto-attestation==0.9.3", "protobuf==7.35.1")
JUDGE = """
import json, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
text = sys.stdin.read()
message = json_format.Parse(text, Message())
Statement.copy_from_pb(message).validate()
predicate = json_format.Parse(json.dumps(json.loads(text)["predicate"]), Provenance())
assert predicate.run_details.metadata.finished_on.seconds > 0
print(message.predicate_type)
"""
# What the specifications require beside the types: SLSA provenance v1 (buildType,
# externalParameters, builder.id), in-toto v1 resource_descriptor.md (one of uri, digest, content),
# digest_set.md (lowercase hex), field_types.md (a URI's scheme in lowercase, times in UTC).
URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, ollama_server: Server
) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("lineage")
    made = Rig(folder, ollama_server.host, ollama_server.models, tiny_base, "whence")
    made.write(notify={"webhook": "http://127.0.0.1:9/secret-token"})
    made.fill(1, 24)
    done = made.retrain()
    assert done["state"] == "PROMOTED", done
    yield made
    made.sound()
    made.remove_models()


@pytest.fixture(scope="module")
def run_id(rig: Rig) -> str:
    with rig.ledger() as ledger:
        (cycle,) = states.last_cycles(ledger, rig.name, ("PROMOTED",), 9)
    return cycle.run_id


@pytest.fixture(scope="module")
def in_toto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in-toto")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
    options = ["--disable-pip-version-check", "--root-user-action", "ignore", "--target"]
    subprocess.run([*pip, *options, str(folder), *PINNED], check=True, timeout=300)
    return folder


def folder_of(rig: Rig, run_id: str) -> Path:
    return rig.folder / "data/cycles" / run_id / run_id


def told(rig: Rig, *words: str, **environment: str) -> dict[str, Any]:
    done = rig.run("--json", "lineage", *words, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def judged(in_toto: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", JUDGE], input=text, text=True, capture_output=True,
        env={"PYTHONPATH": str(in_toto)},
    )  # fmt: skip


def test_the_statement_is_what_the_specifications_ask_for(
    rig: Rig, run_id: str, in_toto: Path
) -> None:
    text = (folder_of(rig, run_id) / "provenance.json").read_text("utf-8")
    done = judged(in_toto, text)
    assert done.stdout == "https://slsa.dev/provenance/v1\n", done.stderr
    for right, wrong in (  # the judge sees a mistake
        ('"subject"', '"subjects"'),
        ('"buildType"', '"build"'),
        ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"),
    ):
        assert right in text
        assert judged(in_toto, text.replace(right, wrong)).returncode != 0

    made = json.loads(text)
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    build, ran = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert URI.fullmatch(build["buildType"])
    assert URI.fullmatch(ran["builder"]["id"])
    assert build["externalParameters"]["line"] == "whence"
    for time in (ran["metadata"]["startedOn"], ran["metadata"]["finishedOn"]):
        assert TIME.fullmatch(time)
    assert all(one["digest"] for one in made["subject"])
    things = [*made["subject"], *build["resolvedDependencies"], *ran["byproducts"]]
    for one in things:
        assert one.get("digest") or one.get("uri"), one
        assert all(HEX.fullmatch(value) for value in one.get("digest", {}).values()), one
        assert URI.fullmatch(one.get("uri", "urn:x"))


def test_the_statement_names_what_is_there_and_nothing_private(rig: Rig, run_id: str) -> None:
    folder = folder_of(rig, run_id)
    path = folder / "provenance.json"
    made = json.loads(path.read_text("utf-8"))
    subject = {one["name"]: one["digest"]["sha256"] for one in made["subject"]}
    assert subject.pop(f"whence:{run_id}") == rig.alias()
    assert set(subject) == {"gguf/model-F16.gguf", "model/model.safetensors"}
    for name, digest in subject.items():
        assert sha256_file(folder / name) == digest
    build = made["predicate"]["buildDefinition"]
    inputs = {one["name"]: one for one in build["resolvedDependencies"]}
    for name in ("train.jsonl", "fresh.jsonl", "dataset.manifest.json"):
        listed = inputs[f"dataset/{name}"]["digest"]["sha256"]
        assert sha256_file(folder.parent / "dataset" / name) == listed
    assert inputs["rows"]["annotations"]["verdicts"] == {"eval_fresh": 8, "keep": 16}
    assert inputs["torch"]["uri"].startswith("pkg:pypi/torch@")
    assert len(inputs["base"]["digest"]["sha256"]) == 64
    text = path.read_text("utf-8")
    for private in (str(rig.folder), str(rig.base.parent), "secret-token", rig.host, ANSWER):
        assert private not in text, private

    with rig.ledger() as ledger:
        kept = detail_of(ledger, run_id, "PROMOTED")["statement"]
        cycle = states.find(ledger, run_id)
        assert cycle is not None
        evidence = made["predicate"]["runDetails"]["byproducts"]
        rules = next(one["annotations"] for one in evidence if one["name"] == "gate")
        assert rules["fresh"]["passed"] is True
        again = statement(_Folders(ledger, rig), cycle, deployment_of(ledger, run_id))
    assert kept == sha256_file(path)
    before = {**made["predicate"]["runDetails"], "byproducts": None, "metadata": None}
    after = {**again["predicate"]["runDetails"], "byproducts": None, "metadata": None}
    assert (again["subject"], after) == (made["subject"], before)


class _Folders(Place):
    """The rig's folders instead of this process's."""

    def __init__(self, ledger: Any, rig: Rig) -> None:
        super().__init__(ledger, rig.server, 0)
        object.__setattr__(self, "_root", rig.folder / "data/cycles")

    def folder(self, run_id: str) -> Path:
        return Path(self._root / run_id)  # type: ignore[attr-defined]


def test_the_model_carries_its_ids(rig: Rig, run_id: str) -> None:
    served = look(rig.server, rig.name)
    made = json.loads((folder_of(rig, run_id).parent / "dataset/dataset.manifest.json").read_text())
    dataset = made["id"].removeprefix("sha256:")
    assert served.inside["cycle"] == served.beside["cycle"] == run_id
    assert served.inside["dataset.sha256"] == served.beside["dataset_sha256"] == dataset
    ids = ids_of(served)
    assert (ids.run_id, ids.cycle, ids.dataset_sha256) == (run_id, run_id, dataset)
    assert (ids.kind, ids.quant, ids.untouched, ids.disagree) == ("model", "F16", True, ())


def test_here_the_rows_are_known(rig: Rig, run_id: str) -> None:
    found = told(rig, rig.name, "--rows")
    assert found["known_here"] is True
    assert (found["tag"], found["state"]) == (f"whence:{run_id}", "PROMOTED")
    assert found["verdicts"] == {"eval_fresh": 8, "keep": 16}
    assert found["model"]["untouched"] is True
    done = rig.run("--json", "lineage", rig.name, "--rows")
    rows = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert [row["rid"] for row in rows] == [f"{n:032x}" for n in range(1, 25)]
    assert {row["source"] for row in rows} == {"proxy"}
    text = rig.run("lineage", rig.name, "--statement").stdout
    assert json.loads(text)["_type"] == "https://in-toto.io/Statement/v1"

    back = told(rig, "--record", f"{1:032x}")
    assert [one["tag"] for one in back["cycles"]] == [f"whence:{run_id}"]
    rig.fill(500, 1)
    assert told(rig, "--record", f"{500:032x}")["cycles"] == []
    done = rig.run("lineage", "--record", "nonsense")
    assert (done.returncode, "there is no row nonsense" in done.stderr) == (2, True)


def test_elsewhere_the_model_tells_by_itself(rig: Rig, run_id: str, tmp_path: Path) -> None:
    elsewhere = {"FT2OLLAMA_DATA": str(tmp_path / "data"), "FT2OLLAMA_LANG": "zh_CN.UTF-8"}
    found = told(rig, rig.name, **elsewhere)
    assert (found["known_here"], found["run_id"]) == (False, run_id)
    assert found["model"]["cycle"] == run_id
    assert found["model"]["untouched"] is True
    assert found["statement"] is None
    said = rig.run("lineage", rig.name, **elsewhere)
    assert said.stdout == f"{run_id}\n"
    assert "本机账本没有这个周期" in said.stderr
    assert "只有产生它的账本知道" in said.stderr


def test_a_model_made_of_ours_is_no_version_of_ours(rig: Rig, run_id: str) -> None:
    body = {"model": "whence:mine", "from": rig.name, "system": "Be brief.", "stream": False}
    httpx.post(f"{rig.host}/api/create", json=body, timeout=60).raise_for_status()
    try:
        assert digest_of(rig.server, "whence:mine") != rig.alias()
        done = rig.run("lineage", "whence:mine")
        assert f"whence:mine is not the version itself: it was made from whence:{run_id}" in (
            " ".join(done.stderr.split())
        )
        assert done.stdout == f"{run_id}\n"
        done = rig.run("lineage", "whence:base")
        assert done.returncode == 2
        assert "does not say where it is from" in done.stderr
    finally:
        rig.server.delete("whence:mine")


def test_the_status_says_what_the_server_has(rig: Rig, run_id: str) -> None:
    def live() -> Any:
        done = rig.run("--json", "loop", "status", rig.name)
        return json.loads(done.stdout.splitlines()[-1])["live"]

    known = live()
    assert (known["tag"], known["digest"]) == (f"whence:{run_id}", rig.alias())
    assert known["known_by"] == "server"
    assert known["since"].startswith("20")
    other = rig.somebody_moves_the_alias()
    try:
        assert live() == {"tag": None, "digest": other, "since": None, "known_by": "server"}
        shown = rig.run("loop", "status", rig.name, COLUMNS="200")
        assert "none of the versions here" in shown.stderr
    finally:
        rig.server.copy(f"whence:{run_id}", rig.name)
