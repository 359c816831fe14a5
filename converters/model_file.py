"""A base folder, with or without an adapter, -> a model GGUF.

The adapter is merged in float32 while the weights stream through, so the merged model exists only
in the file: no intermediate checkpoint, no second rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from converters import metadata
from converters.calibrated import choose, open_calibration
from converters.errors import foreign
from converters.gathered import gathered
from converters.jobs import announce_compiling
from converters.model_tensors import ModelTensors, open_model
from converters.peft_adapter import NO_ADAPTER, read_adapter, require_finite
from converters.quants.fallbacks import fallbacks
from converters.quants.mix import plan
from converters.quants.types import file_type
from converters.trained import Trained, trained_model
from converters.trained_vocab import NOTE as TOKENIZER_NOTE
from converters.trained_vocab import tokenizer_folder
from converters.vocab import read_vocabulary
from converters.writer import Progress, write
from converters.written import Written


def write_model(  # noqa: PLR0913 - one option per thing a caller may decide
    base: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    outtype: str = "Q8_0",
    name: str = "",
    chat_template: str | None = None,
    pre: str | None = None,
    add_bos: bool | None = None,
    lineage: Mapping[str, str] = {},
    progress: Progress | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    text_only: bool = False,
    calibration: Path | None = None,
    mode: str = "auto",
) -> Written:
    """Write `out` as a model GGUF of a file type in quants.types (F16, Q8_0, Q4_K_M, ...).

    adapter: PEFT folder to merge; text_only leaves out its vision and audio parts. chat_template,
    pre and add_bos replace what the folder says. lineage becomes `ft2ollama.<key>` metadata.
    progress(done, total) counts bytes of the output file, on the calling thread. threads: default
    all CPUs; the bytes do not depend on it. say: told, before it happens, what takes long for once
    (kernels being compiled). calibration: statistics of the layers' inputs or an imatrix, see
    importance; mode: what to do with it, see calibrated.
    """
    wanted = file_type(outtype)
    with foreign("the model folder"):
        model = open_model(base)
        trained = trained_weights(adapter, model, text_only=text_only)
        arch, config = model.arch, trained.config
        folder = tokenizer_folder(adapter, base, trained.vocabulary)
        vocabulary = read_vocabulary(
            base,
            config,
            pre=pre,
            chat_template=chat_template,
            add_bos=add_bos,
            tokenizer_folder=folder,
        )
        source = ModelTensors(arch, config, trained.weights)
        shapes, facts = source.shapes(), source.facts()
        known = open_calibration(calibration, mode, arch.NAME, config["num_hidden_layers"])
        kinds = plan(wanted.name, shapes, facts, with_importance=not known.is_exact)
        keys = [
            *metadata.general(arch.NAME, "model", name),
            metadata.string("general.size_label", metadata.size_label(source.n_weights)),
            *arch.pairs(config),
            *vocabulary.pairs(),
            *metadata.lineage_pairs(lineage, name),
            *metadata.closing(wanted.id),
        ]
        metadata.require_text(keys)
        loud = fallbacks(wanted.name, shapes, facts, with_importance=not known.is_exact).sentence
        notes = (
            *trained.notes,
            *([TOKENIZER_NOTE] if folder != base else []),
            *arch.notes(config),
            *vocabulary.notes(),
            *([loud] if loud else []),
        )
    announce_compiling(kinds.values(), say, known.mode)
    choice = choose(known, source.candidates(kinds), threads)
    tensors = source.tensors(kinds, choice.encoders)
    digest, size = write(out, keys, tensors, progress, threads)
    return Written(
        out,
        digest,
        size,
        len(tensors),
        wanted.name,
        arch.NAME,
        (*notes, *choice.notes),
        mode=choice.mode,
        report=choice.report,
    )


def trained_weights(adapter: Path | None, model: ModelTensors, *, text_only: bool) -> Trained:
    """The base's whole weights with a PEFT folder applied, or as they are."""
    arch, config, weights = model.arch, model.config, model.weights
    if adapter is None:
        return trained_model(NO_ADAPTER, arch, config, weights)
    read = gathered(read_adapter(adapter, text_only=text_only), arch, config)
    trained = trained_model(read, arch, config, weights)
    require_finite(adapter)
    return trained
