"""ft2ollama: take a fine-tune from data to `ollama run my-model`, and prove it."""

__version__ = "0.1.0"
