# SPDX-License-Identifier: Apache-2.0
"""The user guide: a page for each resource type, and on it everything the type takes and gives."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, blocks, literals

# In a process of its own: Heat changes what it is loaded into.
_TOLD = """
import json
from doc.ext import resource_pages
types = {
    kind: {
        "doc": cls.__doc__ or "",
        "help": {
            name: found.description
            for name, found in (*cls.properties_schema.items(), *cls.attributes_schema.items())
        },
    }
    for kind, cls in resource_pages.resource_mapping().items()
}
print(json.dumps({"pages": resource_pages.pages(), "types": types}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The pages, and of each type the docstring and the help of everything it takes and gives."""
    command = [sys.executable, "-W", "ignore", "-c", _TOLD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def page_of(told: dict[str, Any], kind: str) -> str:
    return str(told["pages"][f"{kind.lower().replace('::', '-')}.rst"])


def test_every_type_has_a_page(told: dict[str, Any]) -> None:
    assert len(told["pages"]) == len(told["types"]) >= 3


def test_a_page_names_every_property_and_attribute_with_its_help(told: dict[str, Any]) -> None:
    for kind, said in told["types"].items():
        page = page_of(told, kind)
        assert said["help"], kind
        for name, text in said["help"].items():
            assert f"``{name}``" in page, f"{kind}: {name}"
            assert text, f"{kind}: {name} has no help"
        assert said["doc"].strip().splitlines()[0] in page


def test_a_page_says_types_defaults_limits_and_what_an_update_does(told: dict[str, Any]) -> None:
    lines = [" ".join(row.split()) for row in page_of(told, "OS::HeatWorkflow::Task").split("   * - ")]
    (attempts,) = [row for row in lines if row.startswith("``max_attempts``")]
    assert "integer - in place - How often" in attempts
    assert attempts.endswith("Default: ``1``. At least 1.")
    (server,) = [row for row in lines if row.startswith("``server``")]
    assert "string - replaces -" in server
    (group,) = [row for row in lines if row.startswith("``definition.inputs[].name``")]
    assert "Required." in group


def test_the_guide_speaks_of_types_that_there_are(told: dict[str, Any]) -> None:
    environments = [
        yaml.safe_load(path.read_text()) for path in (ROOT / "templates" / "environments").glob("drop-in*.yaml")
    ]
    mapped = {name for environment in environments for name in environment["resource_registry"]}
    pages = (ROOT / "doc" / "source" / "user").glob("*.rst")
    named = {text for page in pages for text in literals(page) if text.startswith("OS::HeatWorkflow::")}
    assert len(named) >= 6
    assert named <= {*told["types"], *mapped}


def test_resources_in_examples_have_properties_that_there_are(told: dict[str, Any]) -> None:
    found = [
        resource
        for page in (ROOT / "doc" / "source" / "user").glob("*.rst")
        for language, text in blocks(page)
        if language == "yaml"
        for resource in yaml.safe_load(text).values()
    ]
    assert len(found) >= 3
    inline = {*told["types"]["OS::HeatWorkflow::Task"]["help"], "requires", "servers", "batch"}
    for resource in found:
        assert set(resource["properties"]) <= set(told["types"][resource["type"]]["help"])
        for task in resource["properties"].get("tasks", {}).values():
            assert set(task) <= inline
