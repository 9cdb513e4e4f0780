# SPDX-License-Identifier: Apache-2.0
"""Server: the type OS::HeatWorkflow::DeployedServer, a machine that Heat did not make and an agent is to join from."""

from __future__ import annotations

from typing import Any

from heat.common.i18n import _
from heat.engine import attributes, support
from heat.engine.resources.openstack.heat import deployed_server

from heat_workflow.resources.agent import (
    AGENT_ID,
    CAPABILITIES,
    JOIN,
    JOIN_TTL,
    NAME,
    AgentResource,
    agent_id_attribute,
    capabilities_schema,
    join_attribute,
    join_ttl_schema,
)

_Stock = deployed_server.DeployedServer
OS_COLLECT_CONFIG = _Stock.OS_COLLECT_CONFIG


class DeployedServerResource(AgentResource):
    """A server that exists already; tasks run on it once an agent has joined with the data of ``join``.

    It takes the properties of OS::Heat::DeployedServer. No credential is made for the server: the transport of
    software configs and its Swift data are accepted and not used, and os_collect_config is empty.
    """

    support_status = support.SupportStatus(version="1.0.0")
    properties_schema = {
        **_Stock.properties_schema,
        CAPABILITIES: capabilities_schema,
        JOIN_TTL: join_ttl_schema,
    }
    attributes_schema = {
        NAME: attributes.Schema(_("Name of the server."), type=attributes.Schema.STRING),
        AGENT_ID: agent_id_attribute,
        JOIN: join_attribute,
        OS_COLLECT_CONFIG: attributes.Schema(
            _("Always empty: nothing but the agent is needed in the server."), type=attributes.Schema.MAP
        ),
    }

    def _server(self) -> str | None:
        return None

    def _resolve_attribute(self, name: str) -> Any:
        if name == NAME:
            return self.properties[NAME] or self.physical_resource_name()
        if name == OS_COLLECT_CONFIG:
            return {}
        return super()._resolve_attribute(name)
