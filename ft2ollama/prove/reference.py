"""The model that the served one should be: weights, tokenizer, chat template, ends of an answer.

In: a base on this disk, with or without a PEFT adapter, or a run of ours.  Out: `Reference`. The
chat template is the adapter's where the trainer saved one beside it (LLaMA-Factory and Unsloth do),
else the base's, else the family that the caller names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft2ollama.base import Base, trained_base
from ft2ollama.chat_jinja import TemplateRefusal
from ft2ollama.config import Config
from ft2ollama.data.tokenizer import Tokenizer
from ft2ollama.errors import UsageError
from ft2ollama.families import families
from ft2ollama.gotemplate import GoTemplate, derive
from ft2ollama.gotemplate.derive import default_system
from ft2ollama.gotemplate.probe import text_probes
from ft2ollama.runs import Run
from ft2ollama.template import ChatTemplate, Message
from ft2ollama.train.plan import model_template

if TYPE_CHECKING:
    from converters.vocab import Vocabulary


@dataclass(frozen=True)
class Reference:
    """base: the weights, `adapter` the PEFT folder on them.

    template: None where the model has no chat template; `no_template` says why.
    declared: texts of the tokens that end an answer by the model's own settings.
    cutoff: longest training text in tokens; thinking: the run's switch; where a run tells them.
    """

    base: Base
    adapter: Path | None
    tokenizer: Tokenizer
    template: ChatTemplate | None
    no_template: str
    declared: tuple[str, ...]
    cutoff: int | None = None
    thinking: bool | None = None

    @property
    def turn_end(self) -> str:
        """What the training taught as the end of an answer; "" without a chat template."""
        return self.template.stop[0] if self.template and self.template.stop else ""

    @property
    def ends(self) -> tuple[str, ...]:
        """Every token that ends an answer, the taught one first."""
        words = (self.turn_end, *self.declared)
        return tuple(dict.fromkeys(word for word in words if word))

    @property
    def bos(self) -> str:
        """Text of the BOS token, "" where there is none."""
        return self.template.special_tokens.get("bos_token", "") if self.template else ""

    @cached_property
    def leading_bos(self) -> str:
        """BOS if it only begins a prompt; "" where it begins every turn too (SmolLM2)."""
        talk = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
        text = self.prompt(talk) or ""
        return self.bos if self.bos and text.count(self.bos) < 2 else ""

    @cached_property
    def system(self) -> str:
        """The system prompt that the chat template adds by itself."""
        if self.template is None:
            return ""
        probes = [probe for probe in text_probes() if not probe.thinking]
        return default_system(self.render, probes)

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """What the exporter writes of the tokenizer; None where it cannot."""
        from converters import ConvertError
        from converters.hf_folder import read_config
        from converters.vocab import read_vocabulary

        folder = self.base.folder
        try:
            config = read_config(folder)
            config["vocab_size"] = max(int(config.get("vocab_size") or 0), len(self.tokenizer))
            return read_vocabulary(folder, config, tokenizer_folder=self.tokenizer.file.parent)
        except ConvertError:
            return None

    @cached_property
    def go_template(self) -> GoTemplate | str:
        """What Ollama is to be told, derived from the chat template; a text says why there is none.

        BOS is part of it where it begins every turn.
        """
        if self.template is None:
            return self.no_template
        known = {name: family.gotmpl for name, family in families().items()}
        special = {"bos_token": self.leading_bos}
        try:
            return derive(self.render, special_tokens=special, ends=self.ends, families=known)
        except UsageError as error:
            return str(error)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str | None:
        """The text of a prompt; None where the chat template refuses the conversation."""
        try:
            return self.render(messages, tools=tools)
        except UsageError:
            return None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
    ) -> str:
        """The chat template as it trained; raises TemplateRefusal."""
        if self.template is None:
            raise TemplateRefusal(self.no_template, messages)
        return self.template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            thinking=self.thinking if thinking is None else thinking,
        )


def open_reference(
    base: Base, *, adapter: Path | None = None, family: str | None = None
) -> Reference:
    """Read everything but the weights. family: a template of modelfiles/ in the model's own place.

    Raises UsageError when `adapter` is no PEFT folder or there is no such family.
    """
    from converters.trained_vocab import tokenizer_folder

    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise UsageError(
            f"{adapter} is no PEFT adapter",
            "it has no adapter_config.json",
            "give the folder that the training wrote: --adapter runs/.../adapter",
        )
    folder = tokenizer_folder(adapter, base.folder, (0, 0))
    tokenizer = Tokenizer(base.tokenizer_folder if folder == base.folder else folder)
    template, why = _template(base, adapter, family, tokenizer)
    return Reference(base, adapter, tokenizer, template, why, _declared(base.folder, tokenizer))


def reference_of_run(run: Run, base: Base, config: Config) -> Reference:
    """What a run of ours trained. base: the one it was trained on."""
    whole = run.is_whole
    found = open_reference(
        trained_base(base, run.model) if whole else base,
        adapter=None if whole else run.adapter,
        family=config.template,
    )
    return replace(found, cutoff=config.cutoff_len, thinking=config.enable_thinking)


def _template(
    base: Base, adapter: Path | None, family: str | None, tokenizer: Tokenizer
) -> tuple[ChatTemplate | None, str]:
    from converters.chat_template import read_chat_templates

    folder = adapter if adapter and read_chat_templates(adapter) else base.folder
    try:
        return model_template(family, folder, tokenizer), ""
    except UsageError as error:
        if family is not None:
            raise
        return None, error.what


def _declared(folder: Path, tokenizer: Tokenizer) -> tuple[str, ...]:
    """eos of tokenizer_config.json, then those of generation_config.json and config.json."""
    eos = _json(folder / "tokenizer_config.json").get("eos_token")
    words = [eos.get("content") if isinstance(eos, dict) else eos]
    for name in ("generation_config.json", "config.json"):
        ids = _json(folder / name).get("eos_token_id")
        listed = ids if isinstance(ids, list) else [ids]
        words += [tokenizer.text(i) for i in listed if isinstance(i, int)]
    return tuple(dict.fromkeys(word for word in words if word))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found
