"""How a key is declared: its section and unit for the docs, its limits for pydantic."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def key(section: str, unit: str, **limits: Any) -> Any:
    """A field's section and unit, and pydantic's limits; the text below the field is its reason."""
    return Field(json_schema_extra={"section": section, "unit": unit}, **limits)
