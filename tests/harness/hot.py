# SPDX-License-Identifier: Apache-2.0
"""Hot: small templates around one server named machine."""

from __future__ import annotations

from typing import Any


class Hot:
    """Builds the parts of a template, and the whole."""

    machine = {"type": "OS::HeatWorkflow::DeployedServer", "properties": {"name": "machine"}}

    def script(self, text: str, *outputs: str, **inputs: str) -> dict[str, Any]:
        """A definition: the script, the outputs it declares, the inputs it declares with their types."""
        return {
            "group": "script",
            "config": f"#!/bin/sh -e\n{text}\n",
            "inputs": [{"name": name, "type": kind} for name, kind in inputs.items()],
            "outputs": [{"name": name} for name in outputs],
        }

    def config(self, text: str, *outputs: str, **inputs: str) -> dict[str, Any]:
        """The same as a resource of Heat's."""
        return {"type": "OS::Heat::SoftwareConfig", "properties": self.script(text, *outputs, **inputs)}

    def task(self, what: dict[str, Any] | str, **properties: Any) -> dict[str, Any]:
        """A Task on the machine: of a definition, or of the config resource of that name."""
        source = {"config": {"get_resource": what}} if isinstance(what, str) else {"definition": what}
        own = {**source, "server": {"get_resource": "machine"}, **properties}
        return {"type": "OS::HeatWorkflow::Task", "properties": own}

    def template(self, outputs: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
        """A template of the machine and the resources."""
        return {
            "heat_template_version": "2021-04-16",
            "resources": {"machine": self.machine, **resources},
            "outputs": {name: {"value": value} for name, value in (outputs or {}).items()},
        }
