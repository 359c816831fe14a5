"""A conversation that a person leads: what was said, and the commands that change it.

A line that begins with `/` is a command, any other line a question. Lines between two lines of
`\"\"\"` belong together, so that code and letters can be pasted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ft2ollama.errors import UsageError
from ft2ollama.files import write_text

HELP = """\
  /system TEXT   begin anew with this system prompt; without TEXT: with none
  /reset         begin anew, keep the system prompt
  /undo          take back the last question and its answer
  /save FILE     write the conversation as a row of training data (.jsonl: append)
  /help          this list
  /bye           end (also Ctrl-D)
  \"\"\"            begin and end a question of several lines"""
_QUOTES = '"""'
Read = Callable[[str], str | None]


@dataclass
class Dialogue:
    """messages: what the model is sent with the next question, a system prompt first."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Add the user's turn."""
        self.messages.append({"role": "user", "content": question})

    def answer(self, text: str) -> None:
        """Add the model's turn."""
        self.messages.append({"role": "assistant", "content": text})

    def command(self, line: str) -> str | None:
        """Carry out `/...`; returns what to tell the person, None to end. Raises UsageError."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name in ("/bye", "/exit", "/quit"):
            return None
        if name in ("/help", "/?"):
            return HELP
        if name == "/system":
            self.messages = [{"role": "system", "content": rest}] if rest else []
            return "  system prompt set" if rest else "  no system prompt"
        if name in ("/reset", "/clear"):
            self.messages = [turn for turn in self.messages if turn["role"] == "system"]
            return "  a new conversation"
        if name == "/undo":
            return self._undo()
        if name == "/save":
            return self._save(rest)
        raise UsageError(f"no command {name}", "", "/help")

    def _undo(self) -> str:
        places = [i for i, turn in enumerate(self.messages) if turn["role"] == "user"]
        if not places:
            return "  nothing to take back"
        del self.messages[places[-1] :]
        return "  taken back"

    def _save(self, name: str) -> str:
        if not name:
            raise UsageError("/save needs a file", "", "/save good-answers.jsonl")
        if not any(turn["role"] == "assistant" for turn in self.messages):
            raise UsageError("there is no answer to save yet", "", "ask something first")
        path = Path(name).expanduser()
        row = json.dumps({"messages": self.messages}, ensure_ascii=False)
        if path.suffix == ".jsonl":
            before = path.read_text("utf-8") if path.is_file() else ""
            gap = "\n" if before and not before.endswith("\n") else ""
            write_text(path, f"{before}{gap}{row}\n")
            return f"  appended to {path}"
        if path.exists():
            raise UsageError(f"{path} exists", "nothing of yours is overwritten", "/save NEW.json")
        write_text(path, f"[{row}]\n")
        return f"  saved as {path}"


def read_question(read: Read) -> str | None:
    """The next question; lines between two lines of three quotation marks are one. None: the end.

    read: gives a line for a prompt, None at the end of the input.
    """
    line = read(">>> ")
    if line is None or not line.lstrip().startswith(_QUOTES):
        return line
    lines = [line.lstrip().removeprefix(_QUOTES)]
    while not lines[-1].rstrip().endswith(_QUOTES):
        following = read("... ")
        if following is None:
            break
        lines.append(following)
    lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
    return "\n".join(lines).strip("\n")
