# SPDX-License-Identifier: Apache-2.0
"""Likeness: whether a real answer is the one in a sample, but for its ids, its tokens and its times."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAMED = re.compile(rf"{_UUID}|hwj1\.[0-9a-f]{{32}}\.[A-Za-z0-9_-]{{43}}|req-{_UUID}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_AGO = re.compile(r"\b\d+ s ago")


class Names:
    """Which id or token of the samples stands for which real one. One for one: two of a sample are never one."""

    def __init__(self) -> None:
        self.real: dict[str, str] = {}
        self.sample: dict[str, str] = {}

    def agree(self, sample: str, real: str) -> bool:
        """Whether the two may stand for each other; from now on they do."""
        return self.real.setdefault(sample, real) == real and self.sample.setdefault(real, sample) == sample

    def made_real(self, value: Any) -> Any:
        """A sample's request with the ids that there really are; an id nobody has met stands for itself."""
        if isinstance(value, dict):
            return {key: self.made_real(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.made_real(item) for item in value]
        return _NAMED.sub(self._met, value) if isinstance(value, str) else value

    def _met(self, found: re.Match[str]) -> str:
        self.agree(found[0], self.real.get(found[0], found[0]))
        return self.real[found[0]]

    def as_sample(self, value: Any, seed: str) -> Any:
        """A real answer as a sample is to show it; ids that are new get one made from ``seed``."""
        if isinstance(value, dict):
            return {self.as_sample(key, seed): self.as_sample(item, f"{seed}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.as_sample(item, f"{seed}.{number}") for number, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return _NAMED.sub(lambda found: self._shown(found[0], seed), value)

    def _shown(self, real: str, seed: str) -> str:
        if real not in self.sample:
            self.agree(_invented(real, seed), real)
        return self.sample[real]


def _invented(real: str, seed: str) -> str:
    made = uuid.uuid5(uuid.NAMESPACE_URL, seed)
    if real.startswith("hwj1."):
        secret = f"{made.hex}{made.hex}"[:43]
        return f"{real[:38]}{secret}"
    return f"req-{made}" if real.startswith("req-") else str(made)


def differences(sample: Any, real: Any, names: Names, where: str = "") -> Iterator[str]:
    """Where the answer is not as the sample says."""
    if type(sample) is not type(real) and not {type(sample), type(real)} <= {int, float}:
        yield f"{where}: {real!r} is no {type(sample).__name__}"
    elif isinstance(sample, dict):
        if set(sample) != set(real):
            yield f"{where}: keys {sorted(set(sample) ^ set(real))} stand on one side only"
        for key in sample.keys() & real.keys():
            yield from differences(sample[key], real[key], names, f"{where}.{key}")
    elif isinstance(sample, list):
        if len(sample) != len(real):
            yield f"{where}: {len(real)} items, not {len(sample)}"
        for number, (one, other) in enumerate(zip(sample, real, strict=False)):
            yield from differences(one, other, names, f"{where}.{number}")
    elif not (_same_text(sample, real, names) if isinstance(sample, str) else sample == real):
        yield f"{where}: {real!r}, not {sample!r}"


def _same_text(sample: str, real: str, names: Names) -> bool:
    shown, met = _NAMED.findall(sample), _NAMED.findall(real)
    if len(shown) != len(met) or not all(names.agree(one, other) for one, other in zip(shown, met, strict=True)):
        return False
    return _without_what_differs(sample) == _without_what_differs(real)


def _without_what_differs(text: str) -> str:
    return _AGO.sub("N s ago", _MOMENT.sub("MOMENT", _NAMED.sub("ID", text)))
