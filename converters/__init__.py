"""Weights and tokenizers -> GGUF: one pass, no torch, nothing looks finished after a crash.

    write_model          base folder (+ adapter)  -> model GGUF
    write_adapter        PEFT folder              -> LoRA GGUF
    quantize             model GGUF               -> the same in another type
    preview              base folder              -> size and real types of a file type
    check_adapter        does this adapter fit that base, and can it be represented
    read_gguf            header, metadata, tensors of a GGUF file
    check_gguf           is this file whole and right for its architecture
    measure              is the whole update in this file
    gguf_to_safetensors  model GGUF               -> Hugging Face folder

Alone on the command line: `python -m converters adapter|model|quantize|check|dump`. Dependencies:
numpy, gguf (constants, tensor names, dequantizers) and, for speed, numba.
"""

from converters.adapter_file import write_adapter
from converters.check import check_gguf
from converters.errors import ConvertError, DoesNotFit, NeedsMerge, Unsupported
from converters.fit import check_adapter
from converters.measure import Measured, measure, pooled_dose
from converters.model_file import write_model
from converters.preview import Preview, preview
from converters.quantize_file import quantize
from converters.reader import GgufFile, read_gguf
from converters.to_safetensors import gguf_to_safetensors
from converters.writer import Progress
from converters.written import Written

OWNER = "ft2ollama"  # another distribution may also install a package named converters

__all__ = [
    "OWNER",
    "ConvertError",
    "DoesNotFit",
    "GgufFile",
    "Measured",
    "NeedsMerge",
    "Preview",
    "Progress",
    "Unsupported",
    "Written",
    "check_adapter",
    "check_gguf",
    "gguf_to_safetensors",
    "measure",
    "pooled_dose",
    "preview",
    "quantize",
    "read_gguf",
    "write_adapter",
    "write_model",
]
