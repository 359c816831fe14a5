"""The schema and the table of foreign keys -> docs/config.md.

    python -m ft2ollama.config.docs > docs/config.md

A test compares the file with this text, so the page cannot fall behind the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ft2ollama.config import compat
from ft2ollama.config.checks import OLLAMA_PARAMETERS
from ft2ollama.config.expects import expects, nullable, spelled
from ft2ollama.config.schema import SECTIONS, Config, section_of, unit_of

_HEAD = """\
<!-- Made from ft2ollama/config/ by: python -m ft2ollama.config.docs > docs/config.md -->
# The config file

One flat file, YAML or JSON. A key that LLaMA-Factory has keeps its name and meaning, so its YAML
files work here; what becomes of keys that only other tools have is told at the
[end](#keys-of-other-tools). Two keys are needed:

```yaml
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
dataset: train.json
```

- Any key can be given on the command line, where it beats the file: `ft2ollama train my.yaml
  lora_rank=8 learning_rate=1e-4 ollama_parameters.temperature=0.2`. The value is read as YAML, and
  taken as it stands for a key that holds text.
- An unknown key, a key given twice or a value of the wrong kind is an error, with file, line and
  column; all of them are reported at once, before any work starts.
- `1e-4` is a number, `yes` and `no` are true and false, dates are text. Paths are taken from the
  folder where the command runs; `~` is your home folder.
- The run folder keeps the whole config, with every default, as `config.yaml`.
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join((_HEAD, *_keys(), *_parameters(), *_foreign()))


def _keys() -> Iterator[str]:
    for section, title in SECTIONS.items():
        yield f"## {title}\n"
        yield from _table(("key", "takes", "default", "unit", "why"), _rows(section))


def _rows(section: str) -> Iterator[tuple[str, ...]]:
    for name, field in Config.model_fields.items():
        if section_of(name) == section:
            null = "null or " if nullable(field.annotation) else ""
            default = "*needed*" if field.is_required() else f"`{_default(field.get_default())}`"
            why = " ".join((field.description or "").split())
            yield f"`{name}`", null + expects(field), default, unit_of(name), why


def _default(value: Any) -> str:
    return "{}" if value == {} else spelled(value)


def _parameters() -> Iterator[str]:
    yield "### ollama_parameters\n"
    yield "The names that Ollama's PARAMETER takes; `num_ctx` has its own key.\n"
    kinds: dict[str, list[str]] = {}
    for name, takes in OLLAMA_PARAMETERS.items():
        kinds.setdefault(takes, []).append(name)
    yield from _table(("takes", "parameters"), ((takes, _code(kinds[takes])) for takes in kinds))


def _foreign() -> Iterator[str]:
    yield "## Keys of other tools\n"
    yield "### Read as one of ours\n"
    renamed = (
        (f"`{name}`", one.source, f"`{one.to}`", one.why)
        for name, one in compat.FOREIGN.items()
        if one.action == "renamed"
    )
    yield from _table(("key", "tool", "here", "why"), renamed)
    yield (
        "A `template` that is LLaMA-Factory's name for the model's own chat template "
        f"({_code(sorted(compat.OWN_TEMPLATES))}) means that one; where the model brings none, the "
        "family of that name, if there is one.\n"
    )
    yield "### Ignored, with a note\n"
    yield "They change speed, paths or looks, or say what is done anyway.\n"
    yield from _table(("why", "tool", "keys"), _grouped("ignored"))
    yield "### Refused\n"
    yield "They ask for another result; `false`, `null`, 0 and the like are let through.\n"
    yield from _table(("why, and what to do", "tool", "keys"), _grouped("refused"))


def _grouped(action: str) -> Iterator[tuple[str, ...]]:
    """Keys of one action, those with the same reason together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, one in compat.FOREIGN.items():
        if one.action == action:
            groups.setdefault((one.why, one.source), []).append(name)
    return ((why, tool, _code(names)) for (why, tool), names in groups.items())


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(markdown())
