# SPDX-License-Identifier: Apache-2.0
"""Nova server: the type OS::HeatWorkflow::Server, an OS::Nova::Server that boots with the agent in its user_data."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from heat.common import exception
from heat.engine import support
from heat.engine.resources.openstack.nova import server as nova

from heat_workflow import errors
from heat_workflow.client import Client
from heat_workflow.client_plugin import CLIENT_NAME
from heat_workflow.resources import user_data
from heat_workflow.resources.agent import AGENT_ID, CAPABILITIES, agent_id_attribute, capabilities_schema
from heat_workflow.shapes import AgentBody, Join, Registration

BOOT_TTL = 3600  # seconds from the call to Nova until the agent must have joined
AGENT_KEY = "heat_workflow_agent"  # in the resource's data: the id of the agent that was registered
USER_DATA_REBUILD = "2.57"  # the Nova microversion from which on a rebuild may bring new user_data
SOME_REGISTRATION: Registration = {  # as long as a real one: what user_data comes to is known before create
    "id": "0" * 36,
    "join_token": f"hwj1.{'0' * 32}.{'0' * 43}",
    "agent_sha256": "0" * 64,
}


class _Shown(Mapping[str, Any]):
    """Properties with some values put in place of what the template says."""

    def __init__(self, properties: Any, instead: Mapping[str, Any]) -> None:
        self._properties, self._instead = properties, instead

    def __getitem__(self, name: str) -> Any:
        return self._instead[name] if name in self._instead else self._properties[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._properties)

    def __len__(self) -> int:
        return len(self._properties)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._properties, name)


class ServerResource(nova.Server):  # type: ignore[misc]
    """A Nova server. With user_data_format SOFTWARE_CONFIG the agent is in its user_data, before the author's parts.

    Tasks may run on it once the agent has joined. The agent is registered before Nova is asked; Nova's id is added by
    the plugin once there is one, so that a guest cannot choose whose tasks it gets. No credential of Keystone or Heat
    reaches the guest. A rebuild, as well as a replacement, gives the new disk a join token of its own.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = {**nova.Server.properties_schema, CAPABILITIES: capabilities_schema}
    attributes_schema = {**nova.Server.attributes_schema, AGENT_ID: agent_id_attribute}

    properties: Any
    _rebuilt: Any = None  # the properties that a rebuild under way is for

    # -- create ------------------------------------------------------------------------------------------------

    def handle_create(self) -> Any:
        if not self.user_data_software_config():
            return super().handle_create()
        self.data_set(AGENT_KEY, self.uuid)
        registered = self._api().put_agent(self.uuid, self._registration())
        given = self.properties
        content = self._user_data(given, registered)
        self.properties = _Shown(given, {self.USER_DATA: content, self.USER_DATA_FORMAT: self.RAW})
        try:
            server_id = super().handle_create()
        finally:
            self.properties = given
        with contextlib.suppress(errors.Unavailable):
            self._bind()
        return server_id

    def check_create_complete(self, server_id: str) -> bool:
        try:
            self._bind()
        except (errors.Unavailable, errors.TooMany):
            return False
        return bool(super().check_create_complete(server_id))

    def _bind(self) -> None:
        """Let the agent run the server's tasks. May be repeated."""
        if agent_id := self._agent_id():
            self._api().patch_agent(agent_id, {"server": self.resource_id})

    def _registration(self) -> AgentBody:
        return {
            "name": self._server_name(),
            "capabilities": sorted(self.properties[CAPABILITIES]),
            "server": None,
            "join_ttl": BOOT_TTL,
            "heat": {"stack_id": self.stack.id, "stack_name": self.stack.name, "resource": self.name},
        }

    def _user_data(self, properties: Any, registered: Registration) -> str:
        """The agent's part, then the author's."""
        content = properties[self.USER_DATA]
        with contextlib.suppress(ValueError):
            content = self.get_software_config(str(uuid.UUID(content)))
        token, release = registered.get("join_token"), registered.get("agent_sha256")
        if not token or not release:
            raise errors.Invalid("the tasks API has no agent to install (see [api] agents_dir), or gave no token")
        plugin = self._plugin()
        join: Join = {
            "api_url": plugin.guest_api_url(),
            "agent_id": registered["id"],
            "join_token": token,
            "ca_pem": plugin.guest_ca_pem(),
        }
        return user_data.with_author_parts(user_data.agent_part(join, release), content)

    # -- no credentials of Heat's ------------------------------------------------------------------------------

    def _register_access_key(self) -> None:
        """None: guests have no way to Heat."""

    def _create_transport_credentials(self, props: Any) -> None:
        """None: the agent's join token is all there is."""

    def _populate_deployments_metadata(self, meta: Any, props: Any) -> None:
        """Nothing is polled."""

    def _update_software_config_transport(self, prop_diff: Any) -> None:
        """The property is accepted and not used."""

    # -- update ------------------------------------------------------------------------------------------------

    def _needs_update(self, *args: Any, **kwargs: Any) -> bool:
        changed: bool = super()._needs_update(*args, **kwargs)
        # The engine may have ended after Nova made the server and before its id was added to the agent.
        return changed or (self.status == self.FAILED and self._agent_id() is not None)

    def needs_replace_with_prop_diff(self, changed_properties_set: Any, after_props: Any, before_props: Any) -> bool:
        if super().needs_replace_with_prop_diff(changed_properties_set, after_props, before_props):
            return True
        rebuilds = {self.IMAGE, self.USER_DATA} & set(changed_properties_set)
        if rebuilds and self._agent_id() and not self.client_plugin().is_version_supported(USER_DATA_REBUILD):
            what = f"server {self.name} is replaced: this Nova cannot rebuild with new user_data ({USER_DATA_REBUILD})"
            self._add_event(self.action, self.status, what)
            return True
        return False

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Any) -> Any:
        self._bind()
        updaters = super().handle_update(json_snippet, tmpl_diff, prop_diff)
        self._rebuilt = json_snippet.properties(self.properties_schema, self.context)
        if CAPABILITIES in prop_diff and (agent_id := self._agent_id()):
            self._api().patch_agent(agent_id, {"capabilities": sorted(self._rebuilt[CAPABILITIES])})
        return updaters

    def check_update_complete(self, updaters: Any) -> bool:
        with contextlib.suppress(StopIteration):
            first = next(step for step in updaters if not step.complete)
            if first.handler == "rebuild" and not first.called and (agent_id := self._agent_id()):
                first.called = self._rebuild(first, agent_id)
                return False
        return bool(super().check_update_complete(updaters))

    def _rebuild(self, step: Any, agent_id: str) -> bool:
        """Have Nova rebuild the server with a new join token, as the old one and the credential are on the old disk."""
        server = self.client_plugin().fetch_server(self.resource_id)
        if server is None:
            return False
        content = self._user_data(self._rebuilt, self._api().rejoin_agent(agent_id))
        wanted = {name: step.handler_kwargs.get(name) for name in ("password", "preserve_ephemeral", "meta")}
        given = {name: value for name, value in wanted.items() if value}
        server.rebuild(self._rebuilt[self.IMAGE] or server.image["id"], userdata=content, **given)
        return True

    # -- check, delete -----------------------------------------------------------------------------------------

    def handle_check(self) -> None:
        super().handle_check()
        agent_id = self._agent_id()
        agent = self._api().get_agent(agent_id) if agent_id else None
        if agent and agent["state"] in ("suspect", "revoked"):
            raise exception.Error(f"agent {agent['name']} ({agent['id']}) is {agent['state']}")

    def _delete(self) -> Any:
        if agent_id := self._agent_id():
            with contextlib.suppress(errors.NotFound):
                self._api().delete_agent(agent_id)
        return super()._delete()

    # -- attributes, validation --------------------------------------------------------------------------------

    def _resolve_attribute(self, name: str) -> Any:
        if name == AGENT_ID:
            return self._agent_id()
        if name == self.OS_COLLECT_CONFIG:
            return {}
        return super()._resolve_attribute(name)

    def validate(self) -> Any:
        """Refuse, before anything is created, user_data that the agent cannot be added to or that Nova would refuse."""
        result = super().validate()
        if self.user_data_software_config() and self.stack.strict_validate:
            try:
                self._user_data(self.properties, SOME_REGISTRATION)
            except errors.Invalid as refusal:
                raise exception.StackValidationFailed(message=f"server {self.name}: {refusal}") from refusal
        return result

    def _agent_id(self) -> str | None:
        found: str | None = self.data().get(AGENT_KEY)
        return found

    def _plugin(self) -> Any:
        return self.client_plugin(CLIENT_NAME)

    def _api(self) -> Client:
        client: Client = self._plugin().client_for(self.stack)
        return client
