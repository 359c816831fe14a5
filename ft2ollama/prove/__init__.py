"""A model in Ollama, made by anybody, held against the model it should be.

`examine` asks the server what it has (`served`), takes the reference apart (`reference`) and runs
the checks, cheap ones first: settings and tensors of the file (`settings`, `weights`), token ids
(`vocabulary`), prompts (`prompts`, `template_check`), what ends an answer (`stops`), parameters
(`parameters`), and replies (`replies`). A fault is three lines: what, why with the values, a fix to
paste (`findings`); those that a Modelfile mends share one Modelfile (`remedy`).
"""

from ft2ollama.prove.examine import Verdict, examine
from ft2ollama.prove.findings import Check, Finding, by_weight
from ft2ollama.prove.reference import Reference, open_reference, reference_of_run
from ft2ollama.prove.served import Served, look

__all__ = [
    "Check",
    "Finding",
    "Reference",
    "Served",
    "Verdict",
    "by_weight",
    "examine",
    "look",
    "open_reference",
    "reference_of_run",
]
