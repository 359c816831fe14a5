"""All checks of a served model, in the order of their cost, and the remedy.

In: what is served, the reference.  Out: `Verdict`. A check that meets an error of the server is
"unknown" with its words: a model that cannot even be loaded is told by the other checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ft2ollama.errors import JobError, UsageError
from ft2ollama.ollama_api import ServerError
from ft2ollama.proof import Tick
from ft2ollama.prove.bos import check_bos
from ft2ollama.prove.findings import WRITE_ANEW, Check, Finding, by_weight, checked
from ft2ollama.prove.parameters import check_parameters
from ft2ollama.prove.prompts import Prompt, ask_prompts, ask_with_tools
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.remedy import Remedy, remedy, write_anew
from ft2ollama.prove.replies import check_replies
from ft2ollama.prove.served import Served
from ft2ollama.prove.stops import check_stops
from ft2ollama.prove.template_check import check_template, check_tools
from ft2ollama.prove.vocabulary import check_tokenizer
from ft2ollama.prove.weights import check_weights

Step = Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """checks: rows of the table.  findings: faults, what explains garbage best first."""

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    remedy: Remedy

    @property
    def healthy(self) -> bool:
        """Nothing is wrong, as far as could be checked."""
        return not self.findings


def examine(
    served: Served,
    reference: Reference,
    *,
    replies: bool = True,
    step: Step | None = None,
    tick: Tick | None = None,
) -> Verdict:
    """Run every check. step: told what begins; tick: prompts and replies done, of how many."""
    say = step or (lambda _: None)
    say("comparing weights")
    checks = [check_weights(served, reference)]
    say("comparing tokens")
    checks.append(_guarded("tokenizer", check_tokenizer, served, reference))
    say("reading prompts")
    checks += _of_prompts(served, reference, tick)
    checks += [check_stops(served, reference), check_parameters(served, reference)]
    if not replies:
        checks.append(Check("replies", "unknown", "not asked for"))
    elif by_weight(checks):
        checks.append(Check("replies", "unknown", "not asked: the faults above come first"))
    else:
        say("comparing replies")
        checks.append(_guarded("replies", check_replies, served, reference, tick))
    anew = write_anew(reference, served.shown.quantization)
    findings = tuple(_with_command(finding, anew) for finding in by_weight(checks))
    return Verdict(tuple(checks), findings, remedy(served, reference, findings))


def _of_prompts(served: Served, reference: Reference, tick: Tick | None) -> list[Check]:
    """Template, BOS and tools: of the same prompts."""
    try:
        prompts: list[Prompt] = []
        if reference.template is not None:
            prompts = ask_prompts(served, reference, tick)
        bos = next((one.got_bos for one in prompts if one.got_bos is not None), 0)
        return [
            check_template(served, reference, prompts),
            check_bos(served, reference, prompts),
            check_tools(served, reference, lambda: ask_with_tools(served, reference, bos)),
        ]
    except ServerError as error:
        fault = Finding("does-not-run", "Ollama cannot run the model", _told(error), error.fix)
        rest = [Check(name, "unknown", "the model does not run") for name in ("BOS", "tools")]
        return [checked("template", "", [fault]), *rest]
    except (JobError, UsageError) as error:
        return [Check(name, "unknown", _told(error)) for name in ("template", "BOS", "tools")]


def _guarded(name: str, check: Callable[..., Check], *given: Any) -> Check:
    try:
        return check(*given)
    except (JobError, UsageError) as error:
        return Check(name, "unknown", _told(error))


def _told(error: JobError | UsageError) -> str:
    return f"{error.what}: {error.why}".splitlines()[0]


def _with_command(finding: Finding, anew: str) -> Finding:
    fix = f"{anew}     # then the Modelfile below" if finding.fix == WRITE_ANEW else finding.fix
    return replace(finding, fix=fix)
