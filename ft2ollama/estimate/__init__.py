"""Memory, disk and minutes of a fine-tune before it starts (docs/estimate.md has the formula).

    shape     config.json, GGUF header or "7B"  -> Shape
    rows      conversations                     -> Rows, their lengths
    job       config + shape + rows             -> Job
    memory    the formula, one function a term
    clock     FLOP, seconds per token
    disk      download, checkpoints, GGUF file, Ollama's copy
    cards     graphics cards by name
    result    Job + Place                       -> Estimate
    suggest   what to change, with its price

Nothing here imports torch or reads a weight.
"""

from ft2ollama.estimate.job import Job, job_of
from ft2ollama.estimate.result import Estimate, Place, Term, estimate
from ft2ollama.estimate.rows import Rows
from ft2ollama.estimate.shape import Shape

__all__ = ["Estimate", "Job", "Place", "Rows", "Shape", "Term", "estimate", "job_of"]
