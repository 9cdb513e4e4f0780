# SPDX-License-Identifier: Apache-2.0
"""People: sessions of the users of a devcloud, and new users with given roles."""

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Any

from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from devcloud.settings import Settings

DEFAULT_DOMAIN = "default"
IDENTITY = {"service_type": "identity", "interface": "public", "version": 3}


@dataclasses.dataclass(frozen=True)
class Person:
    """A user in one project."""

    username: str
    password: str
    user_id: str
    project_name: str
    project_id: str
    session: Session


def log_in(settings: Settings, username: str, password: str, project_name: str) -> Session:
    """A session scoped to the project, which trusts the API's certificate; it asks for a token when it needs one."""
    auth = v3.Password(
        auth_url=f"{settings.auth_url}/v3",
        username=username,
        password=password,
        project_name=project_name,
        user_domain_id=DEFAULT_DOMAIN,
        project_domain_id=DEFAULT_DOMAIN,
    )
    return Session(auth=auth, verify=str(settings.ca_file), timeout=90)


def create_person(settings: Settings, admin: Session, project_name: str, roles: Sequence[str]) -> Person:
    """A new user who has the roles in the project; the project is made if there is none of that name."""
    project_id = _ensure_project(admin, project_name)
    username, password = f"user-{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    user = {"name": username, "password": password, "domain_id": DEFAULT_DOMAIN}
    user_id = str(_call(admin, "POST", "/users", {"user": user})["user"]["id"])
    for role in roles:
        (found,) = _call(admin, "GET", f"/roles?name={role}")["roles"]
        _call(admin, "PUT", f"/projects/{project_id}/users/{user_id}/roles/{found['id']}")
    session = log_in(settings, username, password, project_name)
    return Person(username, password, user_id, project_name, project_id, session)


def _ensure_project(admin: Session, name: str) -> str:
    found = _call(admin, "GET", f"/projects?name={name}")["projects"]
    project = found[0] if found else _call(admin, "POST", "/projects", {"project": {"name": name}})["project"]
    return str(project["id"])


def _call(admin: Session, method: str, path: str, body: object = None) -> dict[str, Any]:
    response = admin.request(path, method, json=body, endpoint_filter=IDENTITY)
    return dict(response.json()) if response.content else {}
