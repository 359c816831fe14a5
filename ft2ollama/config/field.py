"""What every key of the schema carries beside its type: section, unit and limits."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def key(section: str, unit: str, *, example: str = "", **limits: Any) -> Any:
    """A field's section and unit, and pydantic's limits; the text below the field is its reason.

    example: a right value of a mapping, for the error message.
    """
    extra: dict[str, Any] = {"section": section, "unit": unit}
    return Field(json_schema_extra=extra | ({"example": example} if example else {}), **limits)
