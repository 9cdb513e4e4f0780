# SPDX-License-Identifier: Apache-2.0
"""Sources: a template and its environment read from disk, with every file they name, as a client would send them."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from heat_workflow import errors

SUFFIXES = (".yaml", ".yml", ".template")
MOST_BYTES = 16 * 1024 * 1024  # of one file; heat-api takes less
MOST_VALUES = 200_000  # in one file, counted as often as aliases repeat them


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
    """The template and all it names; Invalid if one that has to be YAML is not there, or is no map."""
    sources = Sources(_read(template), {} if environment is None else _read(environment))
    _follow(sources.template, template.resolve().parent, sources.files)
    if environment is not None:
        registry = sources.environment.get("resource_registry")
        _follow_registry(registry, environment.resolve().parent, sources.files)
    return sources


def _read(path: Path) -> dict[str, Any]:
    try:
        loader = _Loader(_bytes(path))
        node = loader.get_single_node()
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise errors.Invalid(f"{path} is refused: written out, its aliases make more than {MOST_VALUES} values")
        content = node and loader.construct_document(node)
    except RecursionError as failure:
        raise errors.Invalid(f"{path} cannot be read: it is nested too deep") from failure
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as failure:
        raise errors.Invalid(f"{path} cannot be read: {_one_line(failure)}") from failure
    if not isinstance(content, dict):
        raise errors.Invalid(f"{path} is no YAML map")
    return content


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return content


def _size(node: Any, known: dict[int, float]) -> float:
    """How many values a part of a document has once aliases are written out; infinite if it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _one_line(failure: Exception) -> str:
    words = " ".join(str(failure).split())
    return "".join(each if each.isprintable() else " " for each in words) or type(failure).__name__


def _follow(part: Any, directory: Path, files: dict[str, str]) -> None:
    """Take in every file named under ``get_file``, and every nested template, which is followed in turn.

    A file that cannot be read is left out: then Heat says who misses it.
    """
    for holder, key in {id(holder): (holder, key) for holder, key in _names(part)}.values():
        try:
            path = (directory / holder[key]).resolve()
        except (OSError, RuntimeError):
            continue
        url = path.as_uri()
        if url not in files:
            files[url] = ""  # it may name itself
            if key == "type":
                content = _read(path)
                _follow(content, path.parent, files)
                files[url] = yaml.safe_dump(content)
            else:
                _take_in(path, url, files)
        holder[key] = url


def _take_in(path: Path, url: str, files: dict[str, str]) -> None:
    try:
        content = _bytes(path)
        files[url] = content.decode()
    except UnicodeDecodeError:
        files[url] = base64.b64encode(content).decode()  # as Heat's client sends what is no text
    except (OSError, ValueError):
        del files[url]


def _names(part: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(part, dict):
        if len(part) == 1 and _is_name(part.get("get_file")):
            yield part, "get_file"
        if _is_name(part.get("type")) and part["type"].endswith(SUFFIXES):
            yield part, "type"
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for value in list(values):
        yield from _names(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _follow_registry(registry: Any, directory: Path, files: dict[str, str]) -> None:
    for name, target in registry.items() if isinstance(registry, dict) else ():
        if _is_name(target) and target.endswith(SUFFIXES):
            holder = {"type": target}
            _follow(holder, directory, files)
            registry[name] = holder["type"]
