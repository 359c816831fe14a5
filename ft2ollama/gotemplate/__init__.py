"""Chat template (Jinja) -> Ollama's Go template, found by rendering, and proved equal by rendering.

`derive` probes the chat template with conversations of marks (`probe`), takes the texts apart
(`slots`), explains what stands where by small decision trees (`tree`), writes the Go template
(`emit`, `defines`), and accepts it only when it builds the same prompt on every case (`cases`) by
our own execution of Go templates (`lexer`, `engine`) on Ollama's data (`ollama_data`).
"""

from ft2ollama.gotemplate.derive import derive
from ft2ollama.gotemplate.ollama_data import (
    dropped_keys,
    normal_arguments,
    normal_tools,
    prompt,
)
from ft2ollama.gotemplate.result import Difference, GoTemplate

__all__ = [
    "Difference",
    "GoTemplate",
    "derive",
    "dropped_keys",
    "normal_arguments",
    "normal_tools",
    "prompt",
]
