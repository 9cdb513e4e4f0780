# SPDX-License-Identifier: Apache-2.0
"""Servers for several stacks: they are there before the first and outlive the last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from devcloud.stacks import Stacks


@contextlib.contextmanager
def servers_of(cloud: Any, names: Iterable[str]) -> Iterator[dict[str, str]]:
    """DeployedServers with an agent each, their ids by name."""
    stacks = Stacks(cloud.session())
    resources = {name: {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"name": name}} for name in names}
    outputs = {name: {"value": {"get_resource": name}} for name in resources}
    source = {"heat_template_version": "2021-04-16", "resources": resources, "outputs": outputs}
    yield stacks.create("servers", source).outputs
    stacks.delete_all()
