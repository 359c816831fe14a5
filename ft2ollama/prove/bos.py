"""Does a prompt begin with the BOS token as often as in training?

A runner adds BOS where the GGUF's `add_bos_token` says so, whatever the Go template wrote: a
template with a literal BOS then begins with two (measured on Ollama 0.9.3 and 0.33), one without
and a file that says false with none.
"""

from __future__ import annotations

from collections.abc import Sequence

from ft2ollama.prove.findings import WRITE_ANEW, Check, Finding, checked, set_key
from ft2ollama.prove.prompts import Prompt
from ft2ollama.prove.reference import Reference
from ft2ollama.prove.served import Served


def check_bos(served: Served, reference: Reference, prompts: Sequence[Prompt]) -> Check:
    """Judged on prompts that are equal otherwise."""
    told = [one for one in prompts if one.got_bos is not None]
    judged = [one for one in told if one.equal_text]
    if not told:
        return Check("BOS", "unknown", "the server does not tell token ids")
    if not judged:
        return Check("BOS", "unknown", "the prompts differ anyway")
    wanted, got = judged[0].wanted_bos, judged[0].got_bos or 0
    if wanted == got:
        return Check("BOS", "ok", f"{got} at the start, as in training")
    return checked("BOS", "", [_fault(served, reference, wanted, got)])


def _fault(served: Served, reference: Reference, wanted: int, got: int) -> Finding:
    says = served.value("tokenizer.ggml.add_bos_token")
    why = f"{wanted} in training, {got} served; the file's add_bos_token is {says}"
    bos = reference.bos or "BOS"
    if reference.leading_bos and reference.leading_bos in served.shown.template:
        why += f", and TEMPLATE writes {bos} too"
    if got < wanted:
        return Finding(
            "bos-missing",
            f"the prompt does not begin with {bos}",
            why,
            "the Modelfile below writes it",
        )
    if got > 1 and reference.leading_bos and reference.leading_bos in served.shown.template:
        what = f"the prompt begins with {bos} {got} times"
        return Finding("bos-doubled", what, why, "the Modelfile below has a TEMPLATE without it")
    more = "twice" if wanted else "which training did not have"
    key = "tokenizer.ggml.add_bos_token"
    fix = WRITE_ANEW if says is None else set_key(served.shown.blob, key, False)
    return Finding("bos-extra", f"the prompt begins with {bos}, {more}", why, fix)
