"""The settings of curation -> docs/curate.md.

    python -m ft2ollama.loop.curate.docs > docs/curate.md

A test compares the file with this text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ft2ollama.config.expects import spelled
from ft2ollama.loop.curate.rules import RULES
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.curate.texts import RULE_TEXTS

_HEAD = """\
<!-- Made from ft2ollama/loop/curate/ by: python -m ft2ollama.loop.curate.docs > docs/curate.md -->
# What becomes of collected rows

`ft2ollama collect preview` shows it for your rows, and writes nothing; `ft2ollama collect review`
lets a person decide. The settings stand under `curate:` in the file of `retrain`, or on the command
line: `ft2ollama collect preview grounded_cap=1`.

## Settings
"""
_RULES = """\
## Rules, in the order in which they are tried

The first that stops a row is the one it is counted under. Rules for `unchecked` answers let pass
what a person wrote, corrected or approved; those for the `model` also what somebody liked.
"""
_LATER = {
    "superseded": "all", "overruled": "unchecked", "corrected_since": "all", "exact_dup": "all",
    "near_dup": "unchecked",
}  # fmt: skip


def markdown() -> str:
    """The whole page."""
    return "\n".join((_HEAD, *_settings(), _RULES, *_rules()))


def _settings() -> Iterator[str]:
    yield "| key | default | why |"
    yield "|---|---|---|"
    for name, field in CurateConfig.model_fields.items():
        default = spelled(field.default).replace("\n", "\\n") or "empty"
        why = " ".join((field.description or "").split())
        yield f"| `{name}` | {f'`{default}`' if default != 'empty' else default} | {why} |"
    yield ""


def _rules() -> Iterator[str]:
    stops = {rule.name: rule.stops for rule in RULES} | _LATER
    needs = {rule.name: rule.needs for rule in RULES}
    yield "| rule | stops | looks at | what is wrong | 中文 |"
    yield "|---|---|---|---|---|"
    for name, texts in RULE_TEXTS.items():
        if name not in ("keep", "eval_fresh"):
            cells = (stops.get(name, "all"), needs.get(name, "all rows"), texts["en"], texts["zh"])
            yield f"| `{name}` | {' | '.join(cells)} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(markdown())
