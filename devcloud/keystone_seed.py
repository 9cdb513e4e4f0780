# SPDX-License-Identifier: Apache-2.0
"""Keystone seed: the projects, users, roles and catalog that Heat, the API and the demo user need."""

import uuid
from collections.abc import Sequence

from keystone.cmd.bootstrap import Bootstrapper
from keystone.common import provider_api

from devcloud.settings import REGION, Settings

PROVIDERS = provider_api.ProviderAPIs
DEFAULT_DOMAIN = "default"


class _Bootstrap(Bootstrapper):  # type: ignore[misc]
    """Keystone's own bootstrap, on the backends that the application has loaded already."""

    def __init__(self, settings: Settings) -> None:
        # Not the parent's __init__: it would load the backends a second time, which Keystone refuses.
        self.admin_username = self.project_name = self.admin_role_name = "admin"
        self.admin_password = settings.passwords["admin"]
        self.reader_role_name = "reader"
        self.member_role_name = "member"
        self.manager_role_name = "manager"
        self.service_role_name = "service"
        self.immutable_roles = True
        self.region_id = REGION
        self.service_name = "keystone"
        self.public_url = self.internal_url = self.admin_url = f"{settings.auth_url}/v3"
        self.endpoints: dict[str, str] = {}


def seed(settings: Settings) -> None:
    """Fill an empty Keystone database, through Keystone's own managers."""
    bootstrap = _Bootstrap(settings)
    bootstrap.bootstrap()
    roles = {
        "admin": bootstrap.admin_role_id,
        "service": bootstrap.service_role_id,
        "member": bootstrap.member_role_id,
        "heat_stack_owner": _create_role("heat_stack_owner"),
        "heat_stack_user": _create_role("heat_stack_user"),
    }
    service_project = _create_project("service", uuid.uuid4().hex)
    for name in ("heat", "heat-workflow"):
        user_id = _create_user(settings, name, DEFAULT_DOMAIN)
        _grant(user_id, service_project, [roles["admin"], roles["service"]])
    demo_id = _create_user(settings, "demo", DEFAULT_DOMAIN)
    _grant(demo_id, _create_project("demo", settings.demo_project_id), [roles["member"], roles["heat_stack_owner"]])
    _create_stack_domain(settings, roles["admin"])
    _create_service("orchestration", "heat", f"{settings.heat_url}/v1/%(project_id)s")
    _create_service("guest-tasks", "heat-workflow", settings.api_url)
    _create_service("compute", "nova", f"{settings.nova_url}/v2.1")
    _create_service("image", "glance", f"{settings.nova_url}/image")


def _create_role(name: str) -> str:
    role_id = uuid.uuid4().hex
    PROVIDERS.role_api.create_role(role_id, {"id": role_id, "name": name})
    return role_id


def _create_project(name: str, project_id: str) -> str:
    project = {"id": project_id, "name": name, "domain_id": DEFAULT_DOMAIN, "enabled": True}
    PROVIDERS.resource_api.create_project(project_id, project)
    return project_id


def _create_user(settings: Settings, name: str, domain_id: str) -> str:
    user = PROVIDERS.identity_api.create_user(
        {"name": name, "domain_id": domain_id, "enabled": True, "password": settings.passwords[name]}
    )
    return str(user["id"])


def _grant(user_id: str, project_id: str, role_ids: Sequence[str]) -> None:
    for role_id in role_ids:
        PROVIDERS.assignment_api.create_grant(role_id, user_id=user_id, project_id=project_id)


def _create_stack_domain(settings: Settings, admin_role_id: str) -> None:
    domain_id = settings.stack_domain_id
    PROVIDERS.resource_api.create_domain(domain_id, {"id": domain_id, "name": "heat", "enabled": True})
    user_id = _create_user(settings, "heat_domain_admin", domain_id)
    PROVIDERS.assignment_api.create_grant(admin_role_id, user_id=user_id, domain_id=domain_id)


def _create_service(service_type: str, name: str, url: str) -> None:
    service_id = uuid.uuid4().hex
    PROVIDERS.catalog_api.create_service(
        service_id, {"id": service_id, "type": service_type, "name": name, "enabled": True}
    )
    for interface in ("public", "internal", "admin"):
        endpoint_id = uuid.uuid4().hex
        endpoint = {
            "id": endpoint_id,
            "interface": interface,
            "url": url,
            "service_id": service_id,
            "region_id": REGION,
            "enabled": True,
        }
        PROVIDERS.catalog_api.create_endpoint(endpoint_id, endpoint)
