# SPDX-License-Identifier: Apache-2.0
"""Sources: a template and its environment read from disk, with every file they name, as a client would send them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from heat_workflow import errors

SUFFIXES = (".yaml", ".yml", ".template")


class _Loader(yaml.SafeLoader):
    """YAML as HOT is written: a date is text."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))  # type: ignore[arg-type]


@dataclasses.dataclass
class Sources:
    """What a stack is made of; ``files`` are the contents of those named, by their URLs."""

    template: dict[str, Any]
    environment: dict[str, Any]
    files: dict[str, str] = dataclasses.field(default_factory=dict)


def read_sources(template: Path, environment: Path | None) -> Sources:
    """The template and all it names; Invalid if a file is no YAML map, or is not there."""
    sources = Sources(_read(template), {} if environment is None else _read(environment))
    _follow(sources.template, template.resolve().parent, sources.files)
    if environment is not None:
        registry = sources.environment.get("resource_registry") or {}
        _follow_registry(registry, environment.resolve().parent, sources.files)
    return sources


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 -- a safe loader
    except (OSError, yaml.YAMLError) as failure:
        raise errors.Invalid(f"{path} cannot be read: {failure}") from failure
    if not isinstance(content, dict):
        raise errors.Invalid(f"{path} is no YAML map")
    return content


def _follow(part: Any, directory: Path, files: dict[str, str]) -> None:
    """Take in every file named under ``get_file``, and every nested template, which is followed in turn."""
    for holder, key in _names(part):
        path = (directory / holder[key]).resolve()
        url = path.as_uri()
        nested = key == "type"
        if url not in files:
            content = _read(path) if nested else None
            files[url] = ""  # it may name itself
            if content is not None:
                _follow(content, path.parent, files)
            files[url] = yaml.safe_dump(content) if nested else path.read_text()
        holder[key] = url


def _names(part: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(part, dict):
        if len(part) == 1 and isinstance(part.get("get_file"), str):
            yield part, "get_file"
        if isinstance(part.get("type"), str) and part["type"].endswith(SUFFIXES):
            yield part, "type"
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for value in list(values):
        yield from _names(value)


def _follow_registry(registry: dict[str, Any], directory: Path, files: dict[str, str]) -> None:
    for name, target in registry.items():
        if isinstance(target, str) and target.endswith(SUFFIXES):
            holder = {"type": target}
            _follow(holder, directory, files)
            registry[name] = holder["type"]
