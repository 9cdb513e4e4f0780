# SPDX-License-Identifier: Apache-2.0
"""Warm-up: the first requests to Keystone, alone, before it is served to many at once."""

import webob

from devcloud.settings import DevCloudError, Settings

DEFAULT_DOMAIN = {"id": "default"}


def warm_up(application: object, settings: Settings) -> None:
    """Log a service user in and validate its token, in this thread.

    Keystone registers its policy rules at the first request that needs one, without a lock: a request beside it finds
    no rule and is refused with 403, which Heat passes on as 503.
    """
    user = {"name": "heat", "password": settings.passwords["heat"], "domain": DEFAULT_DOMAIN}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": "service", "domain": DEFAULT_DOMAIN}}
    login = webob.Request.blank("/v3/auth/tokens", method="POST", json={"auth": {"identity": identity, "scope": scope}})
    answer = login.get_response(application)
    token = answer.headers.get("X-Subject-Token", "")
    validation = webob.Request.blank("/v3/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token})
    status = validation.get_response(application).status
    if not status.startswith("200"):
        raise DevCloudError(f"Keystone did not validate its own token: login {answer.status}, validation {status}")
