# SPDX-License-Identifier: Apache-2.0
"""Substitution in structured configs: exactly what Heat's own deployment does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Heat's own modules warn of what they will leave behind.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VALUES: dict[str, Any] = {"a": 1, "b": {"c": [None]}, "none": None}
names = st.sampled_from(["a", "b", "none", "missing", "get_input", "other"])
configs = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(configs, st.sampled_from(["get_input", "other"]))
def test_the_same_config_comes_out_as_of_heat(config: Any, key: str) -> None:
    from heat.engine.resources.openstack.heat.structured_config import StructuredDeployment

    from heat_workflow.resources.structured import written

    assert written(config, key, VALUES) == StructuredDeployment.parse(VALUES, key, config)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"get_input": "a"}, {"a"}),
        ({"x": [{"get_input": "a"}, {"y": {"get_input": "b"}}]}, {"a", "b"}),
        ({"get_input": "a", "more": 1}, set()),
        ({"get_input": ["a"]}, set()),
        ("get_input", set()),
    ],
)
def test_only_a_map_of_one_key_and_a_name_asks_for_an_input(config: Any, wanted: set[str]) -> None:
    from heat_workflow.resources.structured import inputs_of

    assert inputs_of(config, "get_input") == wanted
