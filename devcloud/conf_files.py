# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what Keystone, Heat, the API and the openstack client read about this cloud."""

import configparser
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import heat_workflow
from devcloud.settings import HOST, REGION, Settings, write_private

Section = Mapping[str, object]

# A locked SQLite file is waited for, not reported: Heat's 64 workers write to one file.
SQLITE_WAIT_S = 60
WORKERS = 96


def write_conf_files(settings: Settings) -> None:
    """Write every configuration file of the cloud; a second run writes the same again."""
    directory = settings.directory
    _write_ini(directory / "keystone.conf", _keystone_conf(settings))
    _write_ini(directory / "heat.conf", _heat_conf(settings))
    _write_ini(directory / "heat-workflow.conf", _api_conf(settings))
    write_private(directory / "openrc", _openrc(settings))
    # JSON is YAML, and needs no library to write.
    write_private(directory / "clouds.yaml", json.dumps(_clouds(settings), indent=1) + "\n")


def _keystone_conf(settings: Settings) -> Mapping[str, Section]:
    keys = settings.directory / "keystone-keys"
    return {
        "DEFAULT": {"use_stderr": True, "default_log_levels": "keystone.common.password_hashing=ERROR"},
        "database": _sqlite(settings, "keystone"),
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": keys / "fernet"},
        "fernet_receipts": {"key_repository": keys / "fernet"},
        "credential": {"key_repository": keys / "credential"},
        "identity": {"password_hash_rounds": 4},
        "cache": {"enabled": True, "backend": "dogpile.cache.memory_pickle"},
    }


def _heat_conf(settings: Settings) -> Mapping[str, Section]:
    etc = Path(sys.prefix) / "etc" / "heat"
    return {
        "DEFAULT": {
            "use_stderr": True,
            "default_log_levels": "heat.engine.environment=ERROR",
            "transport_url": "fake://",
            "executor_thread_pool_size": WORKERS,
            "rpc_response_timeout": 60,
            "plugin_dirs": Path(heat_workflow.__file__).resolve().parent / "plugin_dir",
            "environment_dir": etc / "environment.d",
            "template_dir": etc / "templates",
            "auth_encryption_key": settings.encryption_key,
            "deferred_auth_method": "trusts",
            "enable_stack_abandon": True,
            "enable_stack_adopt": True,
            "stack_user_domain_id": settings.stack_domain_id,
            "stack_domain_admin": "heat_domain_admin",
            "stack_domain_admin_password": settings.passwords["heat_domain_admin"],
            "region_name_for_services": REGION,
            # There is no CloudFormation API here; Heat's own deployment types can do without.
            "default_software_config_transport": "POLL_SERVER_HEAT",
            "default_deployment_signal_transport": "HEAT_SIGNAL",
        },
        "database": _sqlite(settings, "heat"),
        "paste_deploy": {"api_paste_config": etc / "api-paste.ini"},
        "keystone_authtoken": service_login(settings, "heat"),
        "trustee": {
            "auth_type": "password",
            "auth_url": settings.auth_url,
            "username": "heat",
            "password": settings.passwords["heat"],
            "user_domain_id": "default",
        },
        "clients_keystone": {"auth_uri": settings.auth_url},
        "clients_heat_workflow": {"ca_file": settings.ca_file},
        "heat_workflow": {
            "guest_api_url": settings.guest_api_url,
            "guest_ca_file": settings.ca_file,
            # Nothing here takes as long to answer as a machine that boots.
            "waiting_event_after": 5,
        },
    }


def _api_conf(settings: Settings) -> Mapping[str, Section]:
    directory = settings.directory
    return {
        "DEFAULT": {"use_stderr": True},
        "api": {
            "bind_host": HOST,
            "bind_port": settings.api_port,
            "cert_file": settings.api_certificate,
            "key_file": settings.api_key,
            "auth_strategy": "keystone",
            "agents_dir": settings.agents_dir,
        },
        "database": {"connection": f"sqlite:///{directory / 'heat-workflow.sqlite'}"},
        "secrets": {"key_file": settings.key_ring},
        "keystone_authtoken": service_login(settings, "heat-workflow"),
    }


def service_login(settings: Settings, user: str) -> Section:
    """How a service validates tokens, as keystonemiddleware takes it."""
    return {
        "auth_type": "password",
        "auth_url": settings.auth_url,
        "www_authenticate_uri": settings.auth_url,
        "username": user,
        "password": settings.passwords[user],
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
        "service_token_roles_required": True,
    }


def _sqlite(settings: Settings, name: str) -> Section:
    # Nothing here must survive a power cut, so no write waits for the disk.
    file = settings.directory / f"{name}.sqlite"
    return {"connection": f"sqlite:///{file}?timeout={SQLITE_WAIT_S}", "sqlite_synchronous": False}


def _openrc(settings: Settings) -> str:
    variables = {
        "OS_AUTH_URL": f"{settings.auth_url}/v3",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": "demo",
        "OS_PASSWORD": settings.passwords["demo"],
        "OS_PROJECT_NAME": "demo",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": REGION,
        "OS_CACERT": str(settings.ca_file),
    }
    return "".join(f"export {name}='{value}'\n" for name, value in variables.items())


def _clouds(settings: Settings) -> Mapping[str, object]:
    login = {
        "auth_url": f"{settings.auth_url}/v3",
        "username": "demo",
        "password": settings.passwords["demo"],
        "project_name": "demo",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    cloud = {
        "auth": login,
        "region_name": REGION,
        "identity_api_version": 3,
        "cacert": str(settings.ca_file),
    }
    return {"clouds": {"devcloud": cloud}}


def _write_ini(path: Path, sections: Mapping[str, Section]) -> None:
    # No parser default section: [DEFAULT] is an ordinary section to oslo.config.
    parser = configparser.RawConfigParser(default_section="\0")
    parser.read_dict({name: {key: str(value) for key, value in body.items()} for name, body in sections.items()})
    text = io.StringIO()
    parser.write(text)
    write_private(path, text.getvalue())
