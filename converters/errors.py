"""What can go wrong in a conversion, said in four parts.

`what` is the failure in one sentence, `tensor` the tensor or module it is about (or ""), `why` the
facts with their values (several problems are several lines, because a person mends them all in one
go), `fix` something to type or to change. Nothing is written when one of these is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class ConvertError(Exception):
    """The conversion cannot be done, or would not be faithful."""

    def __init__(self, what: str, tensor: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.tensor = tensor
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what + (f" ({self.tensor})" if self.tensor else "")]
        lines += [f"  {line}" for line in self.why.splitlines()]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class Unsupported(ConvertError):
    """The input is sound, but this package cannot represent it in the format asked for."""


class NeedsMerge(Unsupported):
    """The adapter is sound, but only a merged model can say what it trained."""


class DoesNotFit(ConvertError):
    """The adapter was not trained on this base: modules or shapes do not match."""


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Around (or as decorator on) code that takes files of other people at their word.

    A list where a text should be, a key that is missing: every such surprise becomes a ConvertError
    that names `what`; the original is its cause.
    """
    try:
        yield
    except _DAMAGE as error:
        raise ConvertError(
            f"{what} cannot be understood",
            "",
            f"{type(error).__name__}: {error}",
            "if the files are intact, report this with the output of -vv",
        ) from error
