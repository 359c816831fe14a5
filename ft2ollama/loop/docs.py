"""Every key of the config of `retrain` -> docs/loop-config.md.

    python -m ft2ollama.loop.docs > docs/loop-config.md

A test compares the file with this text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

from ft2ollama.config.expects import expects, nullable, spelled
from ft2ollama.loop.curate.settings import CurateConfig
from ft2ollama.loop.settings import RetrainConfig

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HEAD = """\
<!-- Made from ft2ollama/loop/ by: python -m ft2ollama.loop.docs > docs/loop-config.md -->
# The config of retrain

What `ft2ollama retrain CONFIG` and `ft2ollama schedule CONFIG` read; how it is used is told in
[loop.md](loop.md). Two keys are needed, and `ft2ollama init --loop` writes both files:

```yaml
name: shop
train: train.yaml
```

- Paths are looked up beside the file, because a timer starts in a folder of its own.
- An unknown key, a key given twice or a value of the wrong kind is an error, with file, line and
  column; all of them are reported at once.
- A cycle keeps the config with which it began, whatever the file says later.
- The keys of `train.yaml` are those of [config.md](config.md), without data.
"""


def markdown() -> str:
    """The whole page."""
    blocks = {name: block for name, field in _fields(RetrainConfig) if (block := _block(field))}
    parts = [_HEAD, *_table(RetrainConfig, blocks)]
    for name, block in blocks.items():
        if block is not CurateConfig:
            about = " ".join((block.__doc__ or "").split())
            parts += [f"## {name}\n", f"{about}\n", *_table(block, {})]
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    yield from model.model_fields.items()


def _block(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(model: type[BaseModel], blocks: dict[str, type[BaseModel]]) -> Iterator[str]:
    yield "| key | takes | default | why |"
    yield "|---|---|---|---|"
    for name, field in _fields(model):
        why = " ".join((field.description or "").split())
        if block := blocks.get(name):
            page = "curate.md" if block is CurateConfig else f"#{name}"
            takes, default = f"[a block of keys]({page})", "see there"
        else:
            takes, default = _takes(field), _default(field)
        yield "| " + " | ".join((f"`{name}`", takes, default, why.replace("|", "\\|"))) + " |"
    yield ""


def _takes(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is tuple and (options := get_args(get_args(kind)[0])):
        return f"a list of {', '.join(options)}"
    return ("null or " if nullable(kind) else "") + expects(field)


def _default(field: FieldInfo) -> str:
    return "*needed*" if field.is_required() else f"`{spelled(field.get_default())}`"


if __name__ == "__main__":
    sys.stdout.write(markdown())
