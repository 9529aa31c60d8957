"""The server's dialogs of tests/dialogs, over loopback against the program; their format is in the README there.

Each is played flight by flight and octet by octet. What it says was accepted must arrive at the receiver as it was sent,
and nothing else may.
"""

import base64
import functools
import hashlib
import hmac
import itertools
import json
import pathlib
import re
import ssl
import subprocess

import pytest

from support import wait
from support.mail import below_trace, trace_field
from support.raw_smtp import RawSmtp
from support.scripted_receiver import ScriptedReceiver

DIRECTORY = pathlib.Path(__file__).resolve().parents[1] / "dialogs"
HOSTNAME = "relay.example.com"
DIRECTIVES = ("tls", "close", "accepted", "policy")
DETAILS = ("|", "|~", "empty", "mail", "rcpt", "trace", "origin-id")
_sources = (f"127.7.{high}.{low}" for high, low in itertools.product(range(256), range(1, 255)))


# -- the format


class Dialog:
    """steps: dictionaries with a kind, talk or a directive; a talk has what is said and the answers expected."""

    def __init__(self, lines):
        side, *options = lines[0].split()
        self.server = side == "server"
        self.options = dict(option.partition("=")[::2] for option in options)
        self.steps = []
        self._together = False
        for line in lines[1:] if self.server else ():
            self._take(line)

    def _take(self, line):
        talk = re.match(r"([CS])(?:\*(\d+))?:(?: (.*))?$", line)
        word, _, argument = line.partition(" ")
        if talk:
            self._talk(talk[1], talk[3] or "", int(talk[2] or 1))
        elif word in "+-":
            self.steps[-1]["answers"][-1][word].append(argument)
        elif word == "together":
            self._together = True
        elif word in DETAILS:
            self.steps[-1]["details"].append((word, argument))
        else:
            assert word in DIRECTIVES, line
            self.steps.append({"kind": word, "argument": argument, "details": []})

    def _talk(self, who, text, times):
        last = self.steps[-1] if self.steps and self.steps[-1]["kind"] == "talk" else None
        if not last or (who == "C" and last["answers"]):
            last = {"kind": "talk", "said": [], "answers": [], "together": self._together}
            self._together = False
            self.steps.append(last)
        if who == "C":
            last["said"] += [text] * times
        else:
            last["answers"] += [{"text": text, "+": [], "-": []} for _ in range(times)]


def read_dialogs(path):
    """(row of the table or "", dialog) for each row of each dialog in a file."""
    for part in path.read_text(encoding="ascii").split("\n====\n"):
        lines = [line for line in part.split("\n") if line and not line.startswith("#")]
        rows = [line[5:] for line in lines if line.startswith("each ")]
        lines = [line for line in lines if not line.startswith("each ")]
        for row in rows or [""]:
            columns = row.split(" || ")
            with_row = functools.partial(re.sub, r"\$([1-9])", lambda found: columns[int(found[1]) - 1])
            yield row, Dialog([with_row(line) if rows else line for line in lines])


# -- octets


class Sasl:
    """What a client of SCRAM has to remember (RFC 5802 section 3)."""

    def __init__(self):
        self.first = self.challenge = b""
        self.signature = ""

    def final(self, password):
        server_first = base64.b64decode(self.challenge)
        header, bare = self.first[:self.first.index(b",", 2) + 1], self.first[self.first.index(b",", 2) + 1:]
        nonce, salt, iterations = re.fullmatch(rb"r=([^,]+),s=([^,]+),i=(\d+)", server_first).groups()
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(iterations))
        without_proof = b"c=" + base64.b64encode(header) + b",r=" + nonce
        auth_message = b",".join((bare, server_first, without_proof))
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), auth_message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        proved = base64.b64encode(_hmac(_hmac(salted, b"Server Key"), auth_message))
        self.signature = base64.b64encode(b"v=" + proved).decode()
        return base64.b64encode(without_proof + b",p=" + base64.b64encode(proof))


def _hmac(key, text):
    return hmac.digest(key, text, "sha256")


ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", "c": b""}


def decode(text, sasl=None):
    out, at = b"", 0
    while at < len(text):
        macro = re.compile(r"\{(?:(\d+)\*|(base64):|(scram-final):)").match(text, at)
        octet = re.compile(r"\\x([0-9A-Fa-f]{2})").match(text, at)
        if macro:
            end = _closing_brace(text, macro.end())
            inside = decode(text[macro.end():end], sasl)
            if macro[1]:
                out += inside * int(macro[1])
            elif macro[2]:
                if inside[:2] in (b"n,", b"y,"):
                    sasl.first = inside
                out += base64.b64encode(inside)
            else:
                out += sasl.final(inside)
            at = end + 1
        elif octet:
            out, at = out + bytes.fromhex(octet[1]), octet.end()
        elif text[at] == "\\" and text[at + 1:at + 2] in ESCAPES:
            out, at = out + ESCAPES[text[at + 1]], at + 2
        else:
            out, at = out + text[at].encode(), at + 1
    return out


def _closing_brace(text, start):
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    raise ValueError(text)


# -- one run


class Player:
    """Plays a dialog on a connection from an address that nobody has used before: failed log-ins are counted by it."""

    def __init__(self, authority, dialog, octets):
        self._authority = authority
        self._dialog = dialog
        self._octets = octets
        self._sasl = Sasl()
        self._closed = False
        self._code = ""
        self.accepted = []  # the ID and the step of each message

    def play(self):
        self._client = RawSmtp(source=next(_sources), timeout=20)
        with self._client:
            if self._dialog.options.get("tls") == "implicit":
                self._begin_tls()
            ids = []
            for step in self._dialog.steps:
                if step["kind"] == "talk":
                    ids += self._talk(step)
                elif step["kind"] == "tls":
                    self._begin_tls()
                elif step["kind"] == "close":
                    assert self._client.closed(), "the server closes"
                    self._closed = True
                elif step["kind"] == "accepted":
                    self.accepted.append((ids.pop(0), step))
            assert not ids, "nobody asked for these messages"
            # Had there been a reply too many, it would be taken for this one's.
            if not self._closed and self._code not in ("354", "334"):
                assert self._client.ask("HELP").startswith("214")

    def _begin_tls(self):
        context = ssl.create_default_context(cafile=self._authority.certificate)
        self._client.socket = context.wrap_socket(self._client.socket, server_hostname=HOSTNAME)

    def _talk(self, step):
        self._send(step)
        ids = []
        for answer in step["answers"]:
            reply = self._client.reply()
            self._code = reply[:3]
            lines = [line[4:] for line in reply.split("\n")]
            if self._code == "334":
                self._sasl.challenge = lines[0]
            if answer["text"] == "334 {scram-server}":
                assert reply == "334 " + self._sasl.signature
            else:
                assert re.match(answer["text"], reply[:3] + " " + lines[0]), (reply, answer["text"], step["said"])
            for pattern in answer["+"]:
                assert any(re.search(pattern, line) for line in lines), (reply, pattern)
            for pattern in answer["-"]:
                assert not any(re.search(pattern, line) for line in lines), (reply, pattern)
            ids += re.findall(r"^250.* queued as (\S+)$", reply)
        return ids

    def _send(self, step):
        flight = b"".join(decode(line, self._sasl) + (b"" if line.endswith("\\c") else b"\r\n") for line in step["said"])
        size = 1 if self._octets and not step["together"] else len(flight)
        try:
            for at in range(0, len(flight), max(size, 1)):
                self._client.send(flight[at:at + size])
        except ConnectionError:
            pass  # the server has said its last word: it is read now


# -- what arrives


def check_message(instance, receiver, id, step):
    message = next(m for m in receiver.messages if f" id {id}" in trace_field(m.data, HOSTNAME))
    sender, recipients = step["argument"].split(" -> ")
    expected = "" if sender == "<>" else decode(sender).decode()
    assert (message.sender, message.recipients) == (expected, tuple(decode(recipients).decode().split(",")))
    content = below_trace(message.data, HOSTNAME).split(b"\r\n")
    assert content.pop() == b""
    lines = [detail for detail in step["details"] if detail[0] in ("|", "|~")]
    if lines or ("empty", "") in step["details"]:
        assert len(content) == len(lines), content
    for (word, text), line in zip(lines, content):
        assert re.match(text.encode(), line) if word == "|~" else line == decode(text), (line, text)
    for word, text in step["details"]:
        if word == "trace":
            assert re.search(text, trace_field(message.data, HOSTNAME))
        elif word == "origin-id":
            assert origin_of(instance, id) == text
        elif word in ("mail", "rcpt") and text:
            said = [command for command in message.session.commands if command.upper().startswith(word.upper())]
            assert any(set(text.split()) <= set(command.split()) for command in said), (text, said)


def origin_of(instance, id):
    entries = (json.loads(line) for line in instance.log().splitlines() if id in line and line.startswith("{"))
    return next((entry["origin_id"] for entry in entries if "origin_id" in entry), "none")


# -- the tests


def listener(options):
    own = ["127.0.0.0/8"]
    allow = ["192.0.2.0/24"] if "outsider" in options else own
    return {"address": "127.0.0.1:2525", "accept": "queue", "tls": options.get("tls", "none"),
            "auth": options.get("auth", "none"), "class": "transactional", "submission": "submission" in options,
            "allow": allow + ["10.0.0.1/32"] if "xclient" in options else allow,
            "xclient": own if "xclient" in options else [], "normalize": own if "normalize" in options else []}


def users_file(binary, path, kind):
    arguments = ["hash-password"] + (["--scram"] if kind == "scram" else [])
    done = subprocess.run([binary, *arguments], input="secret\n", capture_output=True, text=True, check=True)
    path.write_text(f"ada:{done.stdout.strip()}\n")
    return str(path)


def configuration(options, authority, tmp_path, binary):
    out = {"hostname": HOSTNAME, "listeners": [listener(options)],
           "limits": {"message_size": options.get("size", "50M"), "recipients": int(options.get("recipients", 1000))}}
    if "auth" in options:
        out["users"] = users_file(binary, tmp_path / "users", options.get("users", "scram"))
    if "tls" in options:
        authority.server(HOSTNAME)
        stem = pathlib.Path(authority.directory) / HOSTNAME
        out["tls"] = {"certificate": f"{stem}.pem", "key": f"{stem}.key"}
    return out


def playable(dialog):
    """A policy cannot be had from the program when a test wants it, nor other limits than its own."""
    return dialog.server and "machine" not in dialog.options


FILES = [path for path in sorted(DIRECTORY.glob("*.smtp")) if any(playable(dialog) for _, dialog in read_dialogs(path))]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_program_keeps_to_the_dialog(path, egret, receive_for, authority, tmp_path, request):
    receiver = receive_for("example.net", keywords=(*ScriptedReceiver.KEYWORDS, "DSN"))
    dialogs = [(row, dialog) for row, dialog in read_dialogs(path) if playable(dialog)]
    for options, group in itertools.groupby(dialogs, lambda entry: entry[1].options):
        make = functools.partial(configuration, options, authority, tmp_path)
        instance = egret(start=False)
        instance.configure(**make(instance.binary))
        instance.start()
        for row, dialog in group:
            for octets in (False, True):
                print("row", repr(row), "octet by octet" if octets else "flight by flight")
                player = Player(authority, dialog, octets)
                player.play()
                expected = len(player.accepted)
                wait.until(lambda: len(receiver.messages) >= expected, 20, "what was accepted arrives")
                instance.until_queue_empty()
                for id, step in player.accepted:
                    check_message(instance, receiver, id, step)
                assert len(receiver.messages) == expected, "nothing else arrives"
                receiver.messages.clear()
        instance.stop()
