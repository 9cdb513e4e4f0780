# SPDX-License-Identifier: Apache-2.0
"""First boot: the program in user_data that puts the agent into a machine and starts it at every boot.

Not imported here: user_data carries this text, and the guest's own python3 (3.9 or newer) runs it with nothing else.
``setup`` reads the order on standard input, ``start PLAN`` becomes the agent, ``loop PLAN`` keeps it where no systemd
does. Each may be repeated. Secrets are in agent.conf alone; what happens is one line each on the serial console.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import http.client
import io
import ipaddress
import json
import os
import random
import ssl
import stat
import subprocess
import sys
import time
from typing import Any, Callable
from urllib.parse import urlsplit

SYSTEMD = "/run/systemd/system"
UNIT = "heat-workflow-agent.service"
AGENT_MOST = 16 * 1024 * 1024
BUSY = 3  # exit status: an agent runs already
SLOWEST = 60.0
Plan = dict[str, str]
Settings = Any  # a section of agent.conf


class Trouble(Exception):
    """What went wrong, for the console; never a secret."""


class Console:
    """Says each thing once in a row, on the console, else on standard error."""

    def __init__(self, path: str) -> None:
        self.path, self.last = path, ""

    def say(self, text: str) -> None:
        if text == self.last:
            return
        self.last = text
        line = f"heat-workflow: {''.join(c if c.isprintable() else ' ' for c in text)[:400]}\n"
        try:
            with open(
                os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY), "w", encoding="ascii", errors="replace"
            ) as file:
                file.write("\r" + line)
        except OSError:
            sys.stderr.write(line)
            sys.stderr.flush()


def setup(order: dict[str, Any]) -> int:
    """Write the settings and what starts the agent; then have it started, now and at every boot."""
    plan = order["plan"]
    console = Console(plan["console"])
    console.say(f"agent {order['agent']['agent_id']}: set up, API {order['agent']['api_url']}")
    try:
        for directory in (plan["home"], os.path.dirname(plan["conf"])):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        settings = configparser.RawConfigParser()
        settings["agent"] = {name: value for name, value in order["agent"].items() if value}
        text = io.StringIO()
        settings.write(text)
        changed = put(plan["conf"], text.getvalue().encode(), 0o600)
        put(plan_path(plan), json.dumps(plan, sort_keys=True).encode(), 0o644)
        run_it = f'#!/bin/sh\nexec {sys.executable} -I {plan["home"]}/current.pyz "$@"\n'
        put(os.path.join(plan["home"], "heat-workflow-agent"), run_it.encode(), 0o755)
        keep_running(plan, order["unit"], changed)
    except (OSError, subprocess.SubprocessError) as error:
        console.say(f"not set up: {error}")
        return 1
    return 0


def keep_running(plan: Plan, unit: str, changed: bool) -> None:
    """Hand the agent to systemd, or to a loop that the next boot starts again by cloud-init."""
    if os.path.isdir(SYSTEMD) and plan["units"]:
        put(os.path.join(plan["units"], UNIT), unit.replace("@START@", start_command(plan, "start")).encode(), 0o644)
        for verb in (["daemon-reload"], ["enable", UNIT], ["--no-block", "restart" if changed else "start", UNIT]):
            subprocess.run(["systemctl", *verb], check=True, stdin=subprocess.DEVNULL, timeout=90)
        return
    if os.path.isdir(plan["per_boot"]):
        script = f"#!/bin/sh\n{start_command(plan, 'loop')} </dev/null &\n"
        put(os.path.join(plan["per_boot"], "heat-workflow-agent"), script.encode(), 0o755)
    loop(plan)


def loop(plan: Plan) -> int:
    """Leave a loop behind, in a session of its own, that starts the agent again until it ends for good."""
    start = start_command(plan, "start")
    script = f"while :; do {start}; case $? in 0|{BUSY}) exit;; esac; sleep 5; done"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with open(os.open(plan["log"], flags, 0o600), "wb") as log:
        if os.fstat(log.fileno()).st_size > 1 << 20:
            os.ftruncate(log.fileno(), 0)
        shell = ["/bin/sh", "-c", script]
        subprocess.Popen(shell, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
    return 0


def start(plan: Plan) -> int:  # noqa: RET503 -- the last line does not return
    """Install what is missing, enroll, become the agent. While something fails, say so and try again."""
    console = Console(plan["console"])
    settings = configparser.RawConfigParser()
    settings.read(plan["conf"])
    agent = settings["agent"]
    if is_in_use(agent.get("state_dir", plan["state_dir"])):
        return BUSY
    end_trial(plan["home"], console)
    program = insist(console, lambda: installed(plan["home"]) or install(plan, agent, console))
    if not os.path.exists(os.path.join(agent.get("state_dir", plan["state_dir"]), "credential")):
        insist(console, lambda: enroll(program, plan["conf"], console))
    os.execv(sys.executable, [sys.executable, "-I", program, "run", "--config", plan["conf"]])  # noqa: S606


def insist(console: Console, step: Callable[[], str]) -> str:
    """The step's result; after a failure it is tried again, at most a minute later."""
    delay = 1.0
    while True:
        try:
            return step()
        except (Trouble, OSError, http.client.HTTPException) as error:
            console.say(str(error) or type(error).__name__)
        delay = min(SLOWEST, 2 * delay)
        time.sleep(delay * random.uniform(0.5, 1.0))


def end_trial(home: str, console: Console) -> None:
    """Put back the agent before this one when this one was on trial and who judged it is gone: its time is over, or
    the machine was restarted."""
    mark = os.path.join(home, "trial")
    if not os.path.exists(mark):
        return
    try:
        with open(mark, encoding="ascii") as file:
            trial = json.load(file)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            this_boot = file.read().strip()
        if trial["boot_id"] == this_boot and time.monotonic() < trial["until"]:
            return
        link(home, "current.pyz", os.readlink(os.path.join(home, "previous.pyz")))
        console.say("upgrade: the new agent has not proved itself, the one before it is back")
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.say(f"upgrade: its trial cannot be judged: {error}")
    os.unlink(mark)


def installed(home: str) -> str:
    """The agent to run: what ``current.pyz`` names, if its bytes are still those of its name; else ""."""
    check_trusted(home)
    try:
        program = os.path.join(home, os.readlink(os.path.join(home, "current.pyz")))
        with open(program, "rb") as file:
            found = hashlib.sha256(file.read(AGENT_MOST)).hexdigest()
    except FileNotFoundError:
        return ""
    return program if os.path.basename(program) == f"{found}.pyz" else ""


def install(plan: Plan, agent: Settings, console: Console) -> str:
    """Fetch the agent, check its digest, and only then put it there."""
    wanted = plan["sha256"]
    data = fetch(agent, f"/agent/v1/agent/{wanted}.pyz", console)
    console.say(f"download: {len(data)} bytes")
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise Trouble(f"digest: sha256 is {found}, not {wanted}: not installed")
    console.say(f"digest: sha256 {found} is the one wanted")
    put(os.path.join(plan["home"], f"{wanted}.pyz"), data, 0o644)
    link(plan["home"], "current.pyz", f"{wanted}.pyz")
    return os.path.join(plan["home"], f"{wanted}.pyz")


def fetch(agent: Settings, path: str, console: Console) -> bytes:
    """The bytes at the API, by TLS with the CA given, from nowhere else: no redirect, no proxy."""
    url = urlsplit(agent["api_url"])
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise Trouble(f"download: {agent['api_url']} is not https")
    host = url.hostname or ""
    connection = http.client.HTTPConnection(host, url.port, timeout=60)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(host, url.port, timeout=60, context=tls(agent))
    try:
        try:
            connection.connect()
        except ssl.SSLError as error:
            words = getattr(error, "verify_message", "") or error.reason or "failed"
            clock = "; is the clock of this machine right?" if "valid" in words or "expired" in words else ""
            raise Trouble(f"TLS: {host}: {words}{clock}") from None
        except OSError as error:
            raise Trouble(f"download: {host} port {url.port or 443}: {error}") from None
        if isinstance(connection.sock, ssl.SSLSocket):
            console.say(f"TLS: {host} has a good certificate, {connection.sock.version()}")
        connection.request("GET", url.path.rstrip("/") + path, headers={"User-Agent": "heat-workflow-first-boot"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Trouble(f"download: {path} is answered with {answer.status} {answer.reason}")
        data = answer.read(AGENT_MOST)
        if answer.length:
            raise Trouble(f"download: broken off {answer.length} bytes before its end")
        return data
    finally:
        connection.close()


def tls(agent: Settings) -> ssl.SSLContext:
    """Verified TLS, 1.2 or newer, with the CA of the settings alone if there is one: as the agent has it.

    Not Python's default, which from 3.13 on refuses a CA that the agent takes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = "\n".join(line.strip() for line in agent.get("ca_pem", "").splitlines() if line.strip())
    if pem or agent.get("ca_file"):
        context.load_verify_locations(cafile=agent.get("ca_file"), cadata=pem + "\n" if pem else None)
    else:
        context.load_default_certs()
    return context


def enroll(program: str, conf: str, console: Console) -> str:
    """Have the agent exchange its join token for a secret of its own, and say how that went."""
    command = [sys.executable, "-I", program, "enroll", "--config", conf]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Trouble(f"{'refused' if ' 401 ' in last else 'not enrolled'}: {last}")
    console.say(f"enrolled: {(done.stdout.strip().splitlines() or ['done'])[-1]}")
    return program


def is_in_use(state_dir: str) -> bool:
    """Whether an agent process holds the state directory."""
    try:
        fd = os.open(os.path.join(state_dir, "lock"), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def check_trusted(directory: str) -> None:
    """Trouble when somebody else could put another program where ours lies."""
    path = os.path.realpath(directory)
    facts = os.stat(path)
    while True:
        open_to_others = facts.st_mode & 0o022 and not (facts.st_mode & stat.S_ISVTX and path != directory)
        if facts.st_uid not in (0, os.geteuid()) or open_to_others:
            raise Trouble(f"not started: {path} can be changed by others than root, so the agent in it is not run")
        if path == "/":
            return
        path = os.path.dirname(path)
        facts = os.stat(path)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def put(path: str, data: bytes, mode: int) -> bool:
    """Write the file whole or not at all, durably; whether that changed anything."""
    try:
        with open(path, "rb") as file:
            if file.read() == data and stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode:
                return False
    except FileNotFoundError:
        pass
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return True


def link(home: str, name: str, target: str) -> None:
    """Have a name stand for another file, in one step."""
    fresh = os.path.join(home, f".{name}")
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.replace(fresh, os.path.join(home, name))


def plan_path(plan: Plan) -> str:
    return os.path.join(plan["home"], "plan.json")


def start_command(plan: Plan, verb: str) -> str:
    return f"{sys.executable} -I {plan['home']}/first_boot.py {verb} {plan_path(plan)}"


def main(arguments: list[str]) -> int:
    if arguments == ["setup"]:
        return setup(json.load(sys.stdin))
    with open(arguments[1], encoding="utf-8") as file:
        return {"start": start, "loop": loop}[arguments[0]](json.load(file))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
