"""The program under test: its configuration, its process, its commands and its HTTP interface."""

import copy
import json
import os
import pathlib
import signal
import subprocess
import urllib.error
import urllib.request

import yaml

from . import wait

SMTP = ("127.0.0.1", 2525)
ADMIN = "http://127.0.0.1:8025"
A, B, C = "127.0.1.1", "127.0.1.2", "127.0.1.3"  # the addresses of the sources a, b and c
STOP_WITHIN = 10  # seconds from SIGTERM to the end

_REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def built_in_blocklists():
    """The names of the lists that Egret ships. They are disabled in every test: the suite has lists of its own."""
    with open(_REPOSITORY / "config" / "blocklists.yaml", encoding="utf-8") as file:
        shipped = yaml.safe_load(file)
    return list(shipped["blocklists"])


def source(letter, **more):
    """The source a, b or c, with an EHLO name of its own."""
    address = {"a": A, "b": B, "c": C}[letter]
    return {"address": address, "ehlo": f"{letter}.egress.test", **more}


def configuration(data_dir, /, **sections):
    """A complete configuration made for tests: short times, the suite's DNS server and blocklist.

    Sections that are lists, and sources, pools, classes and smarthosts, replace the default; in all others the given
    keys are merged into it. A section or key that is None is left out.
    """
    config = {
        "hostname": "relay.test",
        "data_dir": str(data_dir),
        "threads": 2,
        "listeners": [{"address": "127.0.0.1:2525", "accept": "queue", "tls": "none", "auth": "none",
                       "allow": ["127.0.0.0/8"], "class": "transactional"}],
        "limits": {"message_size": "50M", "recipients": 1000},
        "spool": {"reserve": "16M"},
        "classes": {"transactional": {"pool": "transactional", "max_age": "1d", "spill": True}},
        "sources": {"a": source("a"), "b": source("b")},
        "delivery": {"port": 25, "allow_private": True, "retry": ["1s", "2s"], "tls": "none"},
        "dns": {"servers": ["127.0.0.53:53"], "timeout": "500ms", "tries": 2},
        "reputation": {
            "interval": "1s", "threshold": 1.0, "confirm": 2, "confirm_interval": "200ms",
            "cooldown": {"first": "2s", "max": "10s"}, "warmup": ["50%", "100%"], "warmup_step": "1s",
            "blocklists": {"bl": {"zone": "bl.test", "weight": 1.0}},
        },
        "admin": {"address": "127.0.0.1:8025"},
        "log": {"level": "debug", "format": "json"},
    }
    replaced = ("sources", "pools", "classes", "smarthosts")
    for name, value in sections.items():
        if isinstance(value, dict) and name not in replaced:
            config[name] = _merged(config.get(name, {}), value)
        else:
            config[name] = copy.deepcopy(value)
    config.setdefault("pools", {"transactional": {"sources": list(config["sources"])}})
    if config.get("reputation"):
        lists = config["reputation"].setdefault("blocklists", {})
        for name in built_in_blocklists():
            lists.setdefault(name, {"enabled": False})
    return {name: value for name, value in config.items() if value is not None}


def _merged(base, changes):
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


class ApiError(AssertionError):
    def __init__(self, status, body):
        super().__init__(f"HTTP {status}: {body}")
        self.status, self.body = status, body


class Egret:
    """One Egret in a directory of its own; its data outlives restarts."""

    def __init__(self, binary, directory, **sections):
        self.binary = str(binary)
        self.directory = str(directory)
        self.data_dir = os.path.join(self.directory, "data")
        self.config_path = os.path.join(self.directory, "egret.yaml")
        self.log_path = os.path.join(self.directory, "egret.log")
        self.environment = dict(os.environ)
        self._process = None
        os.makedirs(self.directory, exist_ok=True)
        self.configure(**sections)

    # -- life

    def configure(self, **sections):
        self.config = configuration(self.data_dir, **sections)
        self.write(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    def write(self, text):
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(text)

    def start(self, ready=True):
        assert os.access(self.binary, os.X_OK), f"no program at {self.binary}: build it, or set EGRET_BINARY"
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen([self.binary, "run", "-c", self.config_path], stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, env=self.environment)
        if ready:
            wait.until(self._is_ready, 15, "egret is ready")
        return self

    def _is_ready(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"egret ended with {self._process.returncode} and did not start:\n{self.log()[-4000:]}")
        return self.http("/readyz")[0] == 200

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self):
        return self._process.pid

    def terminate(self):
        """SIGTERM, without waiting for what it does."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self, within=STOP_WITHIN):
        """Waits for the end and returns the exit code."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"egret did not end within {within} s")
        self._process = None
        return code

    def stop(self):
        if not self._process:
            return
        self.terminate()
        code = self.ended()
        assert code == 0, f"egret ended with {code} on SIGTERM"

    def kill9(self):
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def restart(self):
        self.stop()
        return self.start()

    def discard(self):
        """The end of a test that failed: no questions asked."""
        if self._process:
            self.kill9()

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # -- commands

    def command(self, *arguments, input=None, timeout=20):
        return subprocess.run([self.binary, *arguments, "-c", self.config_path], input=input, capture_output=True,
                              text=True, errors="replace", timeout=timeout, env=self.environment)

    def run_to_end(self, timeout=15):
        """For a run that must refuse to start: its exit code and everything it said."""
        done = subprocess.run([self.binary, "run", "-c", self.config_path], capture_output=True, text=True,
                              errors="replace", timeout=timeout, env=self.environment, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def check(self):
        return self.command("check")

    def classify(self, *replies):
        """(label, blocklist, rule) of each reply."""
        done = self.command("classify", input="".join(reply + "\n" for reply in replies))
        assert done.returncode == 0, done.stderr
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def explain(self, sender="app@sender.test", to="user@shop.test", *more):
        done = self.command("explain", "--from", sender, "--to", to, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def route(self, sender="app@sender.test", to="user@shop.test", *more):
        return json.loads(self.explain(sender, to, "--json", *more))

    # -- HTTP

    def http(self, path, body=None):
        """(status, content type, text)"""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(ADMIN + path, data=data, headers={"Content-Type": "application/json"},
                                         method="GET" if body is None else "POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get("Content-Type", ""), error.read().decode("utf-8", "replace")

    def api(self, path, body=None):
        status, _, text = self.http("/api/v1" + path, body)
        if status // 100 != 2:
            raise ApiError(status, text)
        return json.loads(text) if text.strip() else None

    def sources(self):
        return {entry["name"]: entry for entry in self.api("/sources")}

    def source(self, name):
        return self.sources()[name]

    def blocklists(self):
        return {entry["name"]: entry for entry in self.api("/blocklists")}

    def smarthosts(self):
        return {entry["name"]: entry for entry in self.api("/smarthosts")}

    def pools(self):
        return self.api("/pools")

    def queue(self):
        return self.api("/queue")

    def message(self, id):
        return self.api(f"/messages/{id}")

    def events(self, **fields):
        """Newest first; only those that have these values."""
        found = self.api("/events")["events"]
        return [event for event in found if all(event.get(name) == value for name, value in fields.items())]

    def recheck(self):
        return self.api("/recheck", {})

    # -- states that many tests wait for

    def standing(self, name, provider=None):
        entry = self.source(name)
        if provider is None:
            return entry["standing"]
        return entry["providers"].get(provider, {}).get("standing")

    def until_listed(self, *names, timeout=15):
        for name in names:
            wait.until(lambda: self.standing(name) == "listed", timeout, f"source {name} is listed")

    def until_not_listed(self, *names, timeout=20):
        for name in names:
            wait.until(lambda: self.standing(name) != "listed", timeout, f"source {name} is no longer listed")

    def until_blocklist(self, state, name="bl", timeout=15):
        wait.until(lambda: self.blocklists()[name]["state"] == state, timeout, f"blocklist {name} is {state}")

    def until_queue_empty(self, timeout=30):
        wait.until(lambda: self.queue()["total"] == 0, timeout, "the queue is empty")

    def until_state(self, id, *states, timeout=20):
        """Waits until the message's only recipient is in one of these states; returns the message."""
        wait.until(lambda: self.message(id)["recipients"][0]["state"] in states, timeout,
                   f"message {id} is {' or '.join(states)}")
        return self.message(id)
