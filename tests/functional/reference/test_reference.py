# SPDX-License-Identifier: Apache-2.0
"""The API reference: its samples are what the API takes and answers, its tables what the contract document says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from doc.ext.operations import SAMPLES, meanings, operations
from tests.functional.reference.story import ORDER, WRITING, Narrator
from tests.harness.servers import ApiProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API with an empty store: what the samples list is all there is."""
    directory = tmp_path_factory.mktemp("reference")
    process = ApiProcess(directory, f"sqlite:///{directory}/store.sqlite")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def document(served: ApiProcess) -> dict[str, Any]:
    """The contract as it is served."""
    found: dict[str, Any] = requests.get(f"{served.url}/v1/openapi.json", timeout=10).json()
    return found


@pytest.fixture(scope="module")
def narrator(served: ApiProcess, document: dict[str, Any]) -> Narrator:
    """The story, told to its end."""
    narrator = Narrator(served.url, document)
    for what in ORDER:
        narrator.tell(what)
    return narrator


def problems_of(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(whole).iter_errors(value)
    ]


def test_every_operation_has_a_sample_and_every_sample_an_operation(document: dict[str, Any]) -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(operations(document))


def test_the_api_answers_as_the_samples_say(narrator: Narrator) -> None:
    assert not WRITING, "the samples were written anew; look at them"
    assert narrator.problems == []


def test_the_story_tells_every_sample(narrator: Narrator, document: dict[str, Any]) -> None:
    assert set(narrator.told) == set(operations(document))


def test_requests_and_answers_are_what_the_served_document_says(narrator: Narrator, document: dict[str, Any]) -> None:
    for name, (_, _, operation) in operations(document).items():
        request, answer = narrator.told[name]
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert problems_of(document, schema, request) == [], name
        good = [said for status, said in operation["responses"].items() if status.startswith("2")]
        schemas = [said["content"]["application/json"]["schema"] for said in good if "application/json" in _kinds(said)]
        if answer is not None:
            assert problems_of(document, schemas[0], answer) == [], name


def _kinds(said: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = said.get("content", {})
    return kinds


def test_every_field_has_a_meaning_and_every_meaning_a_field(document: dict[str, Any]) -> None:
    told, used = meanings(), set()
    for model, schema in document["components"]["schemas"].items():
        for field, what in schema.get("properties", {}).items():
            key = f"{model}.{field}" if f"{model}.{field}" in told else field
            assert key in told or what.get("description"), f"{model}.{field} means nothing"
            used.add(key)
    for _, _, operation in operations(document).values():
        names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert names <= set(told)
        used |= names
    assert set(told) <= used, f"no such field: {sorted(set(told) - used)}"


def test_every_operation_stands_on_one_page(document: dict[str, Any]) -> None:
    texts = [page.read_text() for page in Path(SAMPLES.parent).glob("*.rst")]
    for name in operations(document):
        assert sum(text.count(f".. include:: generated/{name}.rst\n") for text in texts) == 1, name
