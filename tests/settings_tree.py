"""Compare the settings that the code reads with those that gateway.toml describes.

A setting is known by its path as an operator writes it: `limits.matches_max`, `peer.address` (for each `[[peer]]`). One
that is off by default stands in the file as a comment, `# name = value`. Pure.
"""

import dataclasses
import re
import types
from collections.abc import Iterator
from typing import Annotated, TypeGuard, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator

HEADING = re.compile(r"#?\s*\[{1,2}([\w.-]+)\]{1,2}\s*(#.*)?$")
SETTING = re.compile(r"#?\s*([a-z][a-z0-9_-]*)\s*=")


def documented(toml: str) -> set[str]:
    """Collect the paths of all settings in the file, those in comments included."""
    paths: set[str] = set()
    section = ""
    for line in toml.splitlines():
        if heading := HEADING.match(line.strip()):
            section = heading[1] + "."
        elif setting := SETTING.match(line.strip()):
            paths.add(section + setting[1])
    return paths


def setting_paths(model: type[object], prefix: str = "") -> Iterator[str]:
    """Yield the path of every single setting below `model`, a pydantic model or a dataclass."""
    for name, annotation in _fields(model):
        nested = [part for part in _parts(annotation) if _is_section(part)]
        if not nested:
            yield prefix + name
        for section in nested:
            yield from setting_paths(section, f"{prefix}{name}.")


def _fields(model: type[object]) -> list[tuple[str, object]]:
    if issubclass(model, BaseModel):
        # A field with a reader of its own is one value in the file, whatever class it becomes.
        return [
            (
                field.alias or name,
                str if any(isinstance(part, BeforeValidator) for part in field.metadata) else annotation,
            )
            for name, field in model.model_fields.items()
            for annotation in [field.annotation]
        ]
    hints = get_type_hints(model)
    return [(name, hints[name]) for name in getattr(model, "__dataclass_fields__", {})]


def _is_section(part: object) -> TypeGuard[type[object]]:
    return isinstance(part, type) and (issubclass(part, BaseModel) or dataclasses.is_dataclass(part))


def _parts(annotation: object) -> Iterator[object]:
    """Open `X | None`, `list[X]`, `dict[str, X]` and `Annotated[X, ...]` down to the classes in them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        is_read_as_one = any(isinstance(part, BeforeValidator) for part in get_args(annotation)[1:])
        yield from [str] if is_read_as_one else _parts(get_args(annotation)[0])
    elif origin in (Union, types.UnionType, list, tuple, dict, frozenset, set):
        for argument in get_args(annotation):
            yield from _parts(argument)
    else:
        yield annotation
