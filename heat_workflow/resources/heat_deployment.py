# SPDX-License-Identifier: Apache-2.0
"""Heat deployment: OS::Heat::SoftwareDeployment itself, under a name that the drop-in environments do not map."""

from __future__ import annotations

from heat.engine import support
from heat.engine.resources.openstack.heat import software_deployment


class HeatDeploymentResource(software_deployment.SoftwareDeployment):  # type: ignore[misc]
    """Heat's own SoftwareDeployment, in a stack whose environment maps that type to ours.

    It delivers the agent's installer to a server that was booted for Heat's own deployments.
    """

    support_status = support.SupportStatus(version="1.0.0")
