# SPDX-License-Identifier: Apache-2.0
"""Nova stand-in: as much of the HTTP APIs of Nova and Glance as OS::Nova::Server needs, and no hypervisor.

A server is a JSON file in the cloud's directory; with a devcloud's agents on, its user_data is "booted" when it joins
(`agents.py`). What this proves is that our resource speaks to Nova's API as novaclient does; not that a Nova takes it.
"""

import json
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import webob
from keystonemiddleware import auth_token

from devcloud.conf_files import service_login
from devcloud.nova_servers import Servers
from devcloud.settings import Settings, load_settings
from devcloud.wsgi import serve

THREADS = 8
NEWEST, OLDEST = "2.96", "2.1"
FLAVORS = {"1": "m1.small", "2": "m1.large"}
IMAGES = {"0c8f7e35-6f4c-4e0e-8f5a-7b1d2c3a4e5f": "debian", "5e9b7a10-3a52-4d6f-9c08-1f2e3d4c5b6a": "debian-next"}

Body = Mapping[str, Any]
Answer = tuple[int, Body | None]


class NovaStandIn:
    """The WSGI application behind keystonemiddleware: the caller's project is in the environment."""

    def __init__(self, servers: Servers, root: str) -> None:
        self._servers = servers
        self._root = root

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = webob.Request(environ)
        status, body = self._answer(request)
        text = b"" if body is None else json.dumps(body).encode()
        response = webob.Response(body=text, status=status, content_type="application/json", charset="UTF-8")
        version = request.headers.get("OpenStack-API-Version", f"compute {OLDEST}")
        response.headers["OpenStack-API-Version"] = version
        response.headers["X-OpenStack-Nova-API-Version"] = version.rpartition(" ")[2]
        return response(environ, start_response)

    def _answer(self, request: webob.Request) -> Answer:
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, request.path.rstrip("/"))
            if found and method == request.method:
                return handler(self, request, *found.groups())
        return 404, {"itemNotFound": {"message": f"{request.method} {request.path} is not played here", "code": 404}}

    # -- versions, flavors, images -----------------------------------------------------------------------------

    def show_version(self, request: webob.Request) -> Answer:
        links = [{"rel": "self", "href": f"{self._root}/v2.1/"}]
        shown = {"id": "v2.1", "status": "CURRENT", "version": NEWEST, "min_version": OLDEST, "links": links}
        return 200, {"version": {**shown, "updated": "2013-07-23T11:33:21Z"}}

    def list_flavors(self, request: webob.Request) -> Answer:
        return 200, {"flavors": [_flavor(flavor_id) for flavor_id in FLAVORS]}

    def show_flavor(self, request: webob.Request, flavor_id: str) -> Answer:
        return (200, {"flavor": _flavor(flavor_id)}) if flavor_id in FLAVORS else _missing("Flavor", flavor_id)

    def show_keypair(self, request: webob.Request, name: str) -> Answer:
        return 200, {"keypair": {"name": name, "public_key": "ssh-ed25519 AAAA", "fingerprint": "00"}}

    def show_limits(self, request: webob.Request) -> Answer:
        return 200, {"limits": {"absolute": {"maxServerMeta": 128, "maxPersonality": 5}, "rate": []}}

    def show_schema(self, request: webob.Request) -> Answer:
        names = ("id", "name", "status", "min_disk", "min_ram")
        return 200, {"name": "image", "properties": {name: {"type": ["string", "integer"]} for name in names}}

    def list_images(self, request: webob.Request) -> Answer:
        wanted = request.GET.get("name")
        return 200, {"images": [_image(image_id) for image_id, name in IMAGES.items() if wanted in (None, name)]}

    def show_image(self, request: webob.Request, image_id: str) -> Answer:
        return (200, _image(image_id)) if image_id in IMAGES else _missing("Image", image_id)

    # -- servers -----------------------------------------------------------------------------------------------

    def create_server(self, request: webob.Request) -> Answer:
        wanted = request.json["server"]
        server_id = str(uuid.uuid4())
        self._servers.create(server_id, request.environ["HTTP_X_PROJECT_ID"], wanted)
        return 202, {"server": {"id": server_id, "links": [], "adminPass": "", "security_groups": []}}

    def list_servers(self, request: webob.Request) -> Answer:
        return 200, {"servers": self._servers.list(request.environ["HTTP_X_PROJECT_ID"])}

    def show_server(self, request: webob.Request, server_id: str) -> Answer:
        shown = self._servers.find(server_id)
        return (200, {"server": shown}) if shown else _missing("Instance", server_id)

    def change_server(self, request: webob.Request, server_id: str) -> Answer:
        self._servers.change(server_id, name=request.json["server"]["name"])
        return self.show_server(request, server_id)

    def delete_server(self, request: webob.Request, server_id: str) -> Answer:
        return (204, None) if self._servers.delete(server_id) else _missing("Instance", server_id)

    def act(self, request: webob.Request, server_id: str) -> Answer:
        if self._servers.find(server_id) is None:
            return _missing("Instance", server_id)
        ((verb, arguments),) = request.json.items()
        if verb == "rebuild":
            changes = {"user_data": arguments["user_data"]} if "user_data" in arguments else {}
            self._servers.change(server_id, rebuilt=True, imageRef=arguments["imageRef"], **changes)
            return 202, {"server": self._servers.find(server_id)}
        if verb in ("suspend", "resume"):
            self._servers.change(server_id, suspended=verb == "suspend")
            return 202, None
        return 400, {"badRequest": {"message": f"action {verb} is not played here", "code": 400}}

    def change_metadata(self, request: webob.Request, server_id: str) -> Answer:
        self._servers.change(server_id, metadata=request.json["metadata"])
        return 200, request.json

    def list_interfaces(self, request: webob.Request, server_id: str) -> Answer:
        return 200, {"interfaceAttachments": []}


def _missing(what: str, name: str) -> Answer:
    return 404, {"itemNotFound": {"message": f"{what} {name} could not be found.", "code": 404}}


def _flavor(flavor_id: str) -> Body:
    sizes = {"ram": 2048, "vcpus": 1, "disk": 20, "OS-FLV-EXT-DATA:ephemeral": 0, "swap": 0, "rxtx_factor": 1.0}
    return {"id": flavor_id, "name": FLAVORS[flavor_id], **sizes, "extra_specs": {}, "links": []}


def _image(image_id: str) -> Body:
    return {"id": image_id, "name": IMAGES[image_id], "status": "active", "min_disk": 0, "min_ram": 0}


_ID = "([^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "|/v2.1", NovaStandIn.show_version),
    ("GET", "/v2.1/flavors(?:/detail)?", NovaStandIn.list_flavors),
    ("GET", f"/v2.1/flavors/{_ID}", NovaStandIn.show_flavor),
    ("GET", f"/v2.1/os-keypairs/{_ID}", NovaStandIn.show_keypair),
    ("GET", "/v2.1/limits", NovaStandIn.show_limits),
    ("GET", "/image/v2/schemas/image", NovaStandIn.show_schema),
    ("GET", "/image/v2/images", NovaStandIn.list_images),
    ("GET", f"/image/v2/images/{_ID}", NovaStandIn.show_image),
    ("POST", "/v2.1/servers", NovaStandIn.create_server),
    ("GET", "/v2.1/servers(?:/detail)?", NovaStandIn.list_servers),
    ("GET", f"/v2.1/servers/{_ID}", NovaStandIn.show_server),
    ("PUT", f"/v2.1/servers/{_ID}", NovaStandIn.change_server),
    ("DELETE", f"/v2.1/servers/{_ID}", NovaStandIn.delete_server),
    ("POST", f"/v2.1/servers/{_ID}/action", NovaStandIn.act),
    ("POST", f"/v2.1/servers/{_ID}/metadata", NovaStandIn.change_metadata),
    ("GET", f"/v2.1/servers/{_ID}/os-interface", NovaStandIn.list_interfaces),
]


def application(settings: Settings) -> Any:
    """The stand-in behind Keystone; its roots (`/` and `/v2.1`) need a token too, as nobody asks without one."""
    stand_in = NovaStandIn(Servers(settings.directory), settings.nova_url)
    return auth_token.AuthProtocol(stand_in, dict(service_login(settings, "heat-workflow")))


def main(directory: Path) -> None:
    """Serve the stand-in of the cloud in the directory."""
    settings = load_settings(directory)
    serve(application(settings), settings.nova_port, THREADS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
