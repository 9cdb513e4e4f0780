# SPDX-License-Identifier: Apache-2.0
"""Stacks: create, watch, update and delete Heat stacks of one user, and say why one failed."""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heatclient import exc
from heatclient.client import Client
from heatclient.common import template_utils
from keystoneauth1.session import Session

from devcloud.settings import DevCloudError

POLL_S = 0.15
DEADLINE_S = 120.0
NESTED_DEPTH = 5

# A path to a file, or the content itself.
Source = Path | str | Mapping[str, object]


class Stack:
    """One stack in Heat; every property asks Heat anew."""

    def __init__(self, heat: Any, stack_id: str, name: str) -> None:
        self.id = stack_id
        self.name = name
        self._heat = heat

    @property
    def status(self) -> str:
        """Action and status in one word, such as CREATE_COMPLETE; DELETE_COMPLETE also when Heat has forgotten it."""
        try:
            return str(self._heat.stacks.get(self.id, resolve_outputs=False).stack_status)
        except exc.HTTPNotFound:
            return "DELETE_COMPLETE"

    @property
    def reason(self) -> str:
        """Heat's words for the status."""
        return str(self._heat.stacks.get(self.id, resolve_outputs=False).stack_status_reason)

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs by name."""
        shown = self._heat.stacks.get(self.id)
        return {output["output_key"]: output.get("output_value") for output in shown.outputs}

    def resource(self, name: str, *attributes: str) -> Any:
        """A resource as heatclient shows it, with the attributes named besides its own."""
        return self._heat.resources.get(self.id, name, with_attr=list(attributes) or None)

    def resources(self) -> list[Any]:
        """The resources of the stack and of the stacks nested in it."""
        return list(self._heat.resources.list(self.id, nested_depth=NESTED_DEPTH))

    def events(self) -> list[Any]:
        """What happened to the stack and its resources, oldest first."""
        return list(self._heat.events.list(self.id, nested_depth=NESTED_DEPTH, sort_dir="asc"))

    def failures(self) -> str:
        """The stack's reason and that of each failed resource, one per line."""
        failed = [each for each in self.resources() if each.resource_status.endswith("_FAILED")]
        lines = [f"{each.resource_name} {each.resource_status}: {each.resource_status_reason}" for each in failed]
        return "\n".join([self.reason, *lines])

    def update(
        self,
        template: Source | None = None,
        environment: Source | None = None,
        parameters: Mapping[str, object] | None = None,
        wait: bool = True,
        **fields: object,
    ) -> None:
        """Update to another template, or with other parameters only; `fields` are heatclient's.

        With `wait`, DevCloudError unless the update is complete. Heat has the stack in progress before it answers.
        """
        body = _body(template, environment) if template is not None else {"existing": True}
        self._heat.stacks.update(self.id, parameters=dict(parameters or {}), **body, **fields)
        if wait:
            self.wait()

    def delete(self, wait: bool = True) -> None:
        """Delete it; nothing happens if it is gone. With `wait`, DevCloudError unless it is gone in time."""
        # Heat takes a second delete of a stack that is all but gone, and then fails on a row that is gone.
        if self.status == "DELETE_COMPLETE":
            return
        try:
            self._heat.stacks.delete(self.id)
        except exc.HTTPNotFound:
            return
        if wait:
            self.wait_until_gone()

    def wait_until_at_rest(self) -> None:
        """Return when nothing goes on: Heat calls a stack failed while other resources are still at it."""
        self.wait_until(lambda: not any(state.endswith("_IN_PROGRESS") for state in self._states()))

    def _states(self) -> list[str]:
        return [self.status, *(str(each.resource_status) for each in self.resources())]

    def wait_until_gone(self) -> None:
        """Return when it is deleted; DevCloudError with the reasons if that fails."""
        self.wait_until(lambda: not self.status.endswith("_IN_PROGRESS"))
        if self.status != "DELETE_COMPLETE":
            raise DevCloudError(f"stack {self.name} is {self.status}: {self.failures()}")

    def wait(self, deadline: float = DEADLINE_S) -> None:
        """Return when the stack's action is complete; DevCloudError with the reasons if it fails or takes longer."""
        self.wait_until(lambda: not self.status.endswith("_IN_PROGRESS"), deadline)
        if not self.status.endswith("_COMPLETE"):
            raise DevCloudError(f"stack {self.name} is {self.status}: {self.failures()}")

    def wait_until(self, condition: Callable[[], object], deadline: float = DEADLINE_S) -> None:
        """Return when the condition holds; DevCloudError with the state of every resource if it takes longer."""
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                states = ", ".join(f"{each.resource_name} {each.resource_status}" for each in self.resources())
                raise DevCloudError(
                    f"stack {self.name} is {self.status} after {deadline:.0f} s ({states}): {self.failures()}"
                )
            time.sleep(POLL_S)


class Stacks:
    """The stacks that one user makes; `delete_all` takes back those made here."""

    def __init__(self, session: Session) -> None:
        self.heat = Client("1", session=session, service_type="orchestration", interface="public")
        self._made: list[Stack] = []

    def create(
        self,
        name_hint: str,
        template: Source,
        environment: Source | None = None,
        parameters: Mapping[str, object] | None = None,
        wait: bool = True,
        **fields: object,
    ) -> Stack:
        """A new stack whose name begins with the hint; `fields` are heatclient's (`timeout_mins`, `disable_rollback`).

        With `wait`, DevCloudError unless it is CREATE_COMPLETE.
        """
        name = f"{name_hint}-{uuid.uuid4().hex[:6]}"
        body = _body(template, environment)
        answer = self.heat.stacks.create(stack_name=name, parameters=dict(parameters or {}), **body, **fields)
        stack = Stack(self.heat, answer["stack"]["id"], name)
        self._made.append(stack)
        if wait:
            stack.wait()
        return stack

    def delete_all(self) -> None:
        """Delete every stack made here and wait until all are gone."""
        for stack in self._made:
            stack.delete(wait=False)
        for stack in self._made:
            stack.wait_until_gone()
        self._made.clear()


def _body(template: Source, environment: Source | None) -> dict[str, Any]:
    files, content = {}, template
    if isinstance(template, Path):
        files, content = template_utils.get_template_contents(template_file=str(template))
    settings: Mapping[str, Any] | str | None = environment if not isinstance(environment, Path) else None
    if isinstance(environment, Path):
        more, settings = template_utils.process_environment_and_files(env_path=str(environment))
        files.update(more)
    return {"template": content, "environment": settings, "files": files}
