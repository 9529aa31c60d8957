"""A start that cannot succeed ends with one clear line and a code that is not zero; nothing is lost or half done."""

import os
import pathlib
import re
import socket
import subprocess

import pytest

from support import wait
from support.egret import ADMIN, B, source
from support.mail import Submitter, letter, send


def refuses_to_run(instance, *mentions):
    """Ends by itself, with an ordinary exit code, and its last words name what is wrong."""
    code, output = instance.run_to_end()
    assert code > 0, f"exit code {code}: {output}"
    last = [line for line in output.splitlines() if line.strip()][-1]
    assert len(last) < 500, last
    for mention in mentions:
        assert mention in last, f"{mention!r} is not in {last!r}"
    return last


@pytest.mark.parametrize("address", ["127.0.0.1:2525", "127.0.0.1:8025"], ids=["listener", "admin"])
def test_a_port_in_use_is_named(egret, address):
    instance = egret(start=False)
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        refuses_to_run(instance, address)


def test_a_port_that_another_egret_has_is_in_use(egret):
    """Listeners shared between the threads of one process must not be shared with a second one."""
    egret()
    second = egret(start=False, admin={"address": "127.0.0.1:8026"})
    refuses_to_run(second, "127.0.0.1:2525")


def test_a_data_directory_that_another_egret_uses_is_refused(egret, shop):
    first = egret()
    second = egret(start=False, admin={"address": "127.0.0.1:8026"}, data_dir=first.data_dir,
                   listeners=[{"address": "127.0.0.1:2526", "allow": ["127.0.0.0/8"], "class": "transactional"}])
    refuses_to_run(second, first.data_dir)
    send(letter())
    wait.until(lambda: shop.messages, 10, "the first one is unharmed")


def test_a_data_directory_below_a_file_is_refused(egret, work):
    blocker = work / "a-file"
    blocker.write_text("")
    refuses_to_run(egret(start=False, data_dir=str(blocker / "data")), str(blocker / "data"))


def test_a_data_directory_on_a_read_only_file_system_is_refused(egret, work):
    mounted = work / "read-only"
    mounted.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(mounted)], check=True)
    try:
        refuses_to_run(egret(start=False, data_dir=str(mounted / "data")), str(mounted))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_spool_of_another_version_is_refused_and_left_alone(egret, receive_for):
    later = receive_for("later.test", start=False)
    instance = egret()
    send(letter(marker="kept"), "user@later.test")
    instance.stop()
    files = [path for path in (pathlib.Path(instance.data_dir) / "spool").rglob("*")
             if path.is_file() and path.stat().st_size >= 64]
    assert files, "no spool files below data_dir/spool"
    before = {path: path.read_bytes() for path in files}
    for path, content in before.items():
        # Magic and version stand at the head of a file, whatever else does.
        path.write_bytes(b"\xff" * 16 + content[16:])
    refuses_to_run(instance, "spool")
    assert all(path.read_bytes() == b"\xff" * 16 + content[16:] for path, content in before.items())
    for path, content in before.items():
        path.write_bytes(content)
    later.start()
    instance.start()
    wait.until(lambda: later.with_marker("kept"), 20, "the right version still has the message")


def test_a_source_whose_address_is_not_on_this_host_rests_and_the_other_serves(egret, shop):
    instance = egret(sources={"a": {"address": "192.0.2.1", "ehlo": "a.egress.test"}, "b": source("b")},
                     delivery={"retry": ["1h"]})
    with Submitter() as submitter:
        for _ in range(20):
            submitter.send(letter())
    wait.until(lambda: len(shop.messages) == 20, 15, "all arrive in the first round")
    assert shop.peers() == {B: 20}
    assert instance.source("a")["share"] == 0
    # It is the source's own fault, so no destination is suspected and the other source is not either.
    assert instance.source("b")["share"] > 0


def test_with_no_usable_address_at_all_mail_is_accepted_and_kept(egret, shop, senders):
    instance = egret(sources={"a": {"address": "192.0.2.1", "ehlo": "a.egress.test"}})
    id = send(letter()).id
    wait.until(lambda: instance.source("a")["share"] == 0, 10, "the source rests")
    assert instance.queue()["total"] == 1
    assert instance.message(id)["recipients"][0]["state"] not in ("delivered", "failed")


# -- configuration

def problems(instance, command="check"):
    """(line, column, rest) of each problem that the command reports; it must fail."""
    done = instance.command(command)
    assert done.returncode == 1, done.stdout + done.stderr
    pattern = re.compile(rf"{re.escape(instance.config_path)}:(\d+):(\d+): (.*)")
    found = [(int(line), int(column), rest) for line, column, rest in pattern.findall(done.stdout + done.stderr)]
    assert found, done.stdout + done.stderr
    return found


def position(text, needle):
    """Line and column, counted from 1, of the needle."""
    before = text[:text.index(needle)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def with_change(instance, old, new):
    text = pathlib.Path(instance.config_path).read_text()
    assert old in text
    instance.write(text.replace(old, new, 1))
    return text.replace(old, new, 1)


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_unknown_key_is_an_error_with_its_place(egret, command):
    instance = egret(start=False)
    text = with_change(instance, "interval:", "intervall:")
    ((line, column, rest),) = problems(instance, command)
    assert (line, column) == position(text, "intervall:") and "intervall" in rest


def test_broken_yaml_is_an_error_with_its_place(egret):
    instance = egret(start=False)
    text = with_change(instance, "hostname: relay.test", 'hostname: "relay.test')
    instance.write(text)
    assert problems(instance)
    refuses_to_run(instance, instance.config_path)


def test_all_problems_are_reported_at_once(egret):
    instance = egret(start=False)
    with_change(instance, "interval: 1s", "interval: soon")
    with_change(instance, "threshold: 1.0", "threshold: high")
    with_change(instance, "message_size: 50M", "message_size: 50 elephants")
    text = " ".join(rest for _, _, rest in problems(instance))
    assert all(key in text for key in ("interval", "threshold", "message_size"))


BAD_CONFIGURATIONS = {
    "a class without its pool": ({"classes": {"transactional": {"pool": "nowhere"}}}, "nowhere"),
    "a pool with a source that does not exist": ({"pools": {"transactional": {"sources": ["a", "zed"]}}}, "zed"),
    "a listener of a class that does not exist": (
        {"listeners": [{"address": "127.0.0.1:2525", "class": "unheard-of"}]}, "unheard-of"),
    "a fallback that does not exist": (
        {"pools": {"transactional": {"sources": ["a", "b"], "fallback": ["nobody"]}}}, "nobody"),
    "two classes that share a source": (
        {"classes": {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
         "pools": {"transactional": {"sources": ["a", "b"]}, "bulk": {"sources": ["b"]}}}, "b"),
    "two classes that share a pool": (
        {"classes": {"transactional": {"pool": "transactional"}, "bulk": {"pool": "transactional"}}}, "transactional"),
    "a blocklist that is dead": (
        {"reputation": {"blocklists": {"sorbs": {"zone": "dnsbl.sorbs.net"}}}}, "dnsbl.sorbs.net"),
    "an address that is none": ({"sources": {"a": {"address": "127.0.1.999"}}}, "127.0.1.999"),
    "an environment variable that is not set": (
        {"smarthosts": {"esp": {"address": "smtp.esp.test:587", "password": "${EGRET_TEST_UNSET}"}}},
        "EGRET_TEST_UNSET"),
    "a secret file that is missing": (
        {"smarthosts": {"esp": {"address": "smtp.esp.test:587", "password": "${file:/nowhere/secret}"}}},
        "/nowhere/secret"),
    "a pattern that does not compile": (
        {"classify": [{"header": "Precedence", "matches": "(unclosed", "class": "transactional"}]}, "matches"),
}


@pytest.mark.parametrize("sections, mention", BAD_CONFIGURATIONS.values(), ids=BAD_CONFIGURATIONS.keys())
def test_check_names_what_is_wrong(egret, sections, mention):
    instance = egret(start=False, **sections)
    assert any(mention in rest for _, _, rest in problems(instance))


def test_shared_true_lets_two_classes_share_a_source(egret):
    instance = egret(start=False, sources={"a": source("a", shared=True)},
                     classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
                     pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["a"]}})
    done = instance.check()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_configuration_file_is_named(egret):
    instance = egret(start=False)
    os.unlink(instance.config_path)
    refuses_to_run(instance, instance.config_path)
