"""The units in deploy/systemd: systemd understands them, and the sandbox allows what the program does."""

import configparser
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from support import wait
from support.mail import letter, send

UNITS = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "systemd"

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


def unit(name):
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNITS / name)
    return parser


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for name in ("egret.service", "egret.socket"):
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/usr/bin/egret", "/bin/true"), encoding="utf-8")
    code, said = analyze("verify", str(tmp_path / "egret.service"), str(tmp_path / "egret.socket"))
    assert code == 0 and not [line for line in said.splitlines() if "egret" in line], said


def test_the_service_is_hardened():
    code, said = analyze("security", "--offline=yes", "--threshold=20", str(UNITS / "egret.service"))
    assert code == 0, said


def test_the_time_to_stop_is_longer_than_egret_needs():
    assert int(unit("egret.service")["Service"]["TimeoutStopSec"]) >= 15


def members(name):
    """The system calls of a filter set, the sets in it included."""
    out = set()
    for line in analyze("syscall-filter", name)[1].splitlines()[1:]:
        entry = line.strip()
        if entry.startswith("@"):
            out |= members(entry)
        elif entry and not entry.startswith("#"):
            out.add(entry)
    return out


def allowed():
    out = set()
    for line in (UNITS / "egret.service").read_text(encoding="utf-8").splitlines():
        if line.startswith("SystemCallFilter="):
            value = line.split("=", 1)[1]
            for entry in value.lstrip("~").split():
                calls = members(entry) if entry.startswith("@") else {entry}
                out = out - calls if value.startswith("~") else out | calls
    return out


def test_the_sandbox_allows_every_system_call_of_a_busy_life(egret, shop):
    instance = egret(start=False)
    trace = os.path.join(instance.directory, "trace")
    binary, wrapper = instance.binary, os.path.join(instance.directory, "traced")
    with open(wrapper, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec strace -f -D -qq -o {trace} {binary} "$@"\n')
    os.chmod(wrapper, 0o755)
    instance.binary = wrapper
    instance.start()
    instance.binary = binary
    for _ in range(5):
        send(letter())
    send(letter(body=b"x" * 70 + b"\r\n" + b"long line\r\n" * 200_000))
    wait.until(lambda: len(shop.messages) == 6, 20, "mail flows")
    assert instance.command("reload").returncode == 0
    assert instance.http("/metrics")[0] == 200
    os.kill(instance.pid, signal.SIGUSR2)
    wait.until(lambda: "handing over" in instance.log() and instance.http("/readyz")[0] == 200, 30, "it took over")
    send(letter())
    wait.until(lambda: len(shop.messages) == 7, 20, "mail flows again")
    instance.stop()
    with open(trace, encoding="utf-8", errors="replace") as file:
        used = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)", file.read(), re.M))
    assert {"execve", "accept", "fdatasync"} <= used, used
    used.discard("fchown")  # SQLite's, which gives its files to the database's owner when it runs as root, as here
    assert used - allowed() == set()
