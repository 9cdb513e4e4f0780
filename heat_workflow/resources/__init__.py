# SPDX-License-Identifier: Apache-2.0
"""Resources: the types that Heat gets from us."""

from __future__ import annotations

from typing import Any


def resource_mapping() -> dict[str, type[Any]]:
    """Type name -> class, as Heat's plugin loader asks for it."""
    # Imported here, so that what needs no Heat (user_data, plans) is to be had without it.
    from heat_workflow.resources.agent import AgentResource
    from heat_workflow.resources.group import TaskGroupResource
    from heat_workflow.resources.heat_deployment import HeatDeploymentResource
    from heat_workflow.resources.nova_server import ServerResource
    from heat_workflow.resources.server import DeployedServerResource
    from heat_workflow.resources.structured import StructuredTaskGroupResource, StructuredTaskResource
    from heat_workflow.resources.task import TaskResource
    from heat_workflow.resources.workflow import WorkflowResource

    return {
        "OS::HeatWorkflow::Agent": AgentResource,
        "OS::HeatWorkflow::DeployedServer": DeployedServerResource,
        "OS::HeatWorkflow::HeatDeployment": HeatDeploymentResource,
        "OS::HeatWorkflow::Server": ServerResource,
        "OS::HeatWorkflow::StructuredTask": StructuredTaskResource,
        "OS::HeatWorkflow::StructuredTaskGroup": StructuredTaskGroupResource,
        "OS::HeatWorkflow::Task": TaskResource,
        "OS::HeatWorkflow::TaskGroup": TaskGroupResource,
        "OS::HeatWorkflow::Workflow": WorkflowResource,
    }
