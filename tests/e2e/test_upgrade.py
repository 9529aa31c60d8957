"""Another binary, or the same one again, takes the listening sockets over, and no connection is refused meanwhile."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from support import wait
from support.disk import Disk
from support.egret import SMTP
from support.listeners import listener
from support.mail import letter, marker_of, send
from support.raw_smtp import RawSmtp, stuffed
from support.traffic import Traffic

READY = "/readyz"


class Knocking:
    """Clients that connect, say a few commands and leave, over and over. Every tenth time they send a message."""

    def __init__(self, threads=6):
        self.refused, self.reset, self.waits, self.accepted = [], [], [], []
        self.told = 0  # 421: not now
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client is stuck"

    def _run(self, number):
        turn = 0
        while not self._stop.is_set():
            turn += 1
            self._visit(f"{number}-{turn}" if turn % 10 == 0 else None)

    def _visit(self, marker):
        began = time.monotonic()
        try:
            client = RawSmtp(*SMTP, timeout=20)
        except OSError as error:
            self.refused.append(repr(error))
            return
        with client:
            try:
                banner = client.reply()
            except (OSError, EOFError) as error:
                self.reset.append(repr(error))
                return
            self.waits.append(time.monotonic() - began)
            try:
                self._talk(client, banner, marker)
            except (OSError, EOFError) as error:
                self.reset.append(repr(error))

    def _talk(self, client, banner, marker):
        if banner.startswith("421"):
            self.told += 1
            return
        for command in ("EHLO client.test", "MAIL FROM:<app@sender.test>", "RCPT TO:<user@shop.test>"):
            if client.ask(command).startswith("421"):
                self.told += 1
                return
        if marker:
            assert client.ask("DATA").startswith("354")
            client.send(stuffed(letter(marker)))
            if client.reply().startswith("250"):
                self.accepted.append(marker)
        client.ask("QUIT")


def replaceable(instance):
    """Its binary becomes a copy of its own."""
    copy = os.path.join(instance.directory, "egret")
    shutil.copy(instance.binary, copy)
    instance.binary = copy
    return instance


def install(instance, content=None):
    """Another file at the place of the binary; returns its inode. Without content it is an egret that differs by one octet."""
    fresh = instance.binary + ".new"
    if content is None:
        shutil.copy(instance.binary, fresh)
        with open(fresh, "ab") as file:
            file.write(b"\0")
    else:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(fresh, 0o755)
    os.replace(fresh, instance.binary)
    return os.stat(instance.binary).st_ino


def running_file(instance):
    return os.stat(f"/proc/{instance.pid}/exe").st_ino


def until_taken_over(instance, inode):
    wait.until(lambda: running_file(instance) == inode and instance.http(READY)[0] == 200, 20, "the new program is ready")


def test_new_binaries_take_over_under_load_without_one_refused_connection(egret, shop):
    instance = replaceable(egret(start=False)).start()
    pid = instance.pid
    with Knocking() as clients:
        for turn in range(4):
            goal = len(clients.waits) + 150
            wait.until(lambda: len(clients.waits) >= goal, 20, "clients come and go")
            inode = install(instance)
            if turn % 2:
                done = instance.command("upgrade")
                assert done.returncode == 0 and instance.binary in done.stdout, done.stdout + done.stderr
            else:
                os.kill(pid, signal.SIGUSR2)
            until_taken_over(instance, inode)
        goal = len(clients.waits) + 150
        wait.until(lambda: len(clients.waits) >= goal, 20, "and go on")
    print(f"\n{len(clients.waits)} connections during 4 hand-overs: {len(clients.refused)} refused, {len(clients.reset)} reset, "
          f"{clients.told} told 421, longest wait for the banner {max(clients.waits) * 1000:.0f} ms")
    assert not clients.refused and not clients.reset
    assert instance.pid == pid and instance.running
    instance.until_queue_empty()
    arrived = [marker_of(message.data) for message in shop.messages]
    assert sorted(arrived) == sorted(clients.accepted)


def test_clients_that_send_while_it_happens_are_told_and_lose_nothing(egret, shop):
    instance = replaceable(egret(start=False)).start()
    idle = RawSmtp()
    idle.hello()
    traffic = Traffic(threads=3, pause=0.001).start()
    traffic.until_acknowledged(50)
    inode = install(instance)
    os.kill(instance.pid, signal.SIGUSR2)
    assert idle.reply().startswith("421 4.3.2") and idle.closed()
    until_taken_over(instance, inode)
    traffic.stop()
    instance.until_queue_empty()
    arrived = [marker_of(message.data) for message in shop.messages]
    assert len(arrived) == len(set(arrived))
    assert {sent.marker for sent in traffic.acknowledged()} <= set(arrived)


@pytest.mark.parametrize("binary, why", [("#!/bin/sh\nexit 3\n", "exit code 3"), ("#!/bin/sh\necho hello\n", "not an egret"),
                                         ("nonsense", "--version")])
def test_a_broken_binary_is_refused_and_the_old_one_goes_on(egret, shop, binary, why):
    instance = replaceable(egret(start=False)).start()
    before = running_file(instance)
    install(instance, binary)
    status, _, text = instance.http("/api/v1/upgrade", {})
    assert status == 400 and why in text, text
    assert instance.events(kind="upgrade-refused")
    assert running_file(instance) == before
    send(letter())
    wait.until(lambda: shop.messages, 10, "mail still flows")


def test_a_broken_configuration_is_refused_with_its_place(egret, shop):
    instance = egret()
    with open(instance.config_path, encoding="utf-8") as file:
        good = file.read()
    instance.write(good.replace("interval:", "intervall:", 1))
    os.kill(instance.pid, signal.SIGUSR2)
    refused = wait.until(lambda: instance.events(kind="upgrade-refused"), 20, "it says no")
    assert "intervall" in refused[0]["text"] and instance.config_path in refused[0]["text"]
    send(letter())
    wait.until(lambda: shop.messages, 10, "mail still flows")


def test_a_configuration_that_cannot_be_started_with_is_refused(egret, shop):
    """Files that only the TLS library understands, and addresses that somebody else has."""
    instance = egret()
    before = running_file(instance)
    ca = os.path.join(instance.directory, "ca.pem")
    with open(ca, "w", encoding="utf-8") as file:
        file.write("no certificate\n")
    instance.configure(smarthosts={"esp": {"address": "smtp.esp.test:587", "ca": ca}})
    checked = instance.check()
    assert checked.returncode == 1 and "smarthosts.esp.ca" in checked.stderr and ca in checked.stderr, checked.stderr
    done = instance.command("upgrade")
    assert done.returncode == 1 and ca in done.stdout + done.stderr, done.stdout + done.stderr
    instance.configure(listeners=[listener(), listener(2599)])
    with holding(2599):
        done = instance.command("upgrade")
        assert done.returncode == 1 and "cannot listen on 127.0.0.1:2599" in done.stdout + done.stderr, done.stdout + done.stderr
    assert running_file(instance) == before and instance.http(READY)[0] == 200


def runs(argument):
    """Whether some process was started with this argument."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if argument.encode() in file.read().split(b"\0"):
                    return True
    return False


@pytest.mark.parametrize("start", ["sleep 5432.1; true", "setsid -f sleep 6; sleep 5432.1; true"])
def test_a_stop_ends_a_check_that_hangs_and_those_whom_it_started(egret, start):
    instance = replaceable(egret(start=False)).start()
    install(instance, f"#!/bin/sh\n{start}\n")
    os.kill(instance.pid, signal.SIGUSR2)
    wait.until(lambda: runs("5432.1"), 10, "the new program hangs")
    began = time.monotonic()
    instance.terminate()
    assert instance.ended() == 0 and time.monotonic() - began < 5, "whoever left its group is not waited for"
    assert not runs("5432.1")


def test_sigterm_as_late_as_can_be_is_a_stop(egret):
    instance = egret(start=False)
    disk = Disk(instance)
    instance.start()
    send(letter(), to="user@nowhere.test")
    disk.fail("sync delay=1000 segments")
    os.kill(instance.pid, signal.SIGUSR2)
    wait.until(lambda: '"stopped"' in instance.log(), 20, "only the spool has to be closed")
    instance.terminate()
    assert instance.ended() == 0
    assert "nobody takes over" in instance.log() and "handing over" not in instance.log()


def test_sigterm_during_a_hand_over_is_a_stop(egret, shop):
    instance = egret()
    client = RawSmtp()
    client.hello()
    client.envelope("app@sender.test", "user@shop.test")  # holds the end up for up to four seconds
    os.kill(instance.pid, signal.SIGUSR2)
    wait.until(lambda: instance.http(READY)[0] == 503, 20, "the hand-over has begun")
    queued = [RawSmtp() for _ in range(20)]
    instance.terminate()
    client.close()
    assert instance.ended() == 0
    for late in queued:
        assert late.reply() == "421 4.3.2 shutting down" and late.closed()


@pytest.mark.parametrize("before, after", [(2, 1), (1, 3)])
def test_with_other_numbers_of_workers_every_connection_is_served(egret, shop, before, after):
    instance = replaceable(egret(start=False, threads=before)).start()
    instance.configure(threads=after)
    inode = install(instance)
    os.kill(instance.pid, signal.SIGUSR2)
    until_taken_over(instance, inode)
    for _ in range(60):
        with RawSmtp(timeout=5) as client:
            assert client.reply().startswith("220")
    assert "in use" not in instance.log()


def test_a_listener_that_went_meanwhile_is_closed_with_a_warning(egret, shop):
    instance = replaceable(egret(start=False, listeners=[listener(), listener(2526)])).start()
    instance.configure(listeners=[listener()])
    inode = install(instance)
    os.kill(instance.pid, signal.SIGUSR2)
    until_taken_over(instance, inode)
    assert "127.0.0.1:2526" in instance.log() and "no listener there" in instance.log()
    with pytest.raises(ConnectionRefusedError):
        RawSmtp(port=2526)


def answers_at(address):
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return answer.status == 200


def test_addresses_can_grow_to_wildcards_by_an_upgrade(egret, shop):
    """0.0.0.0 cannot be bound while the old socket on 127.0.0.1 is open."""
    instance = replaceable(egret(start=False, listeners=[listener(), listener(2526)])).start()
    instance.configure(listeners=[listener(host="0.0.0.0"), listener(2526), listener(2526, host="0.0.0.0")],
                       admin={"address": "0.0.0.0:8025", "token": "t" * 16})
    inode = install(instance)
    os.kill(instance.pid, signal.SIGUSR2)
    until_taken_over(instance, inode)
    assert answers_at("127.0.0.2:8025")
    for host, port in (("127.0.0.1", 2525), ("127.0.0.2", 2525), ("127.0.0.1", 2526), ("127.0.0.2", 2526)):
        with RawSmtp(host, port, timeout=5) as client:
            assert client.reply().startswith("220")


def test_where_the_admin_address_is_to_change_the_command_is_told_the_old_one(egret, shop):
    instance = replaceable(egret(start=False)).start()
    instance.configure(admin={"address": "127.0.0.1:8026"})
    inode = install(instance)
    done = instance.command("upgrade", "--admin", "http://127.0.0.1:8025")
    assert done.returncode == 0, done.stdout + done.stderr
    wait.until(lambda: answers_at("127.0.0.1:8026"), 20, "it answers at the new address")
    assert running_file(instance) == inode


# ---- sockets that somebody else holds


def listening(port):
    held = socket.create_server(("127.0.0.1", port), backlog=512)
    held.set_inheritable(True)
    return held


def start_with(instance, *sockets):
    """As a service manager does it: the sockets as 3, 4, ..., and variables that say so."""
    moves = " ".join(f"{3 + number}<&{held.fileno()} {held.fileno()}<&-" for number, held in enumerate(sockets))
    script = f'exec {moves}; export LISTEN_PID=$$ LISTEN_FDS={len(sockets)}; exec "$@"'
    with open(instance.log_path, "ab") as log:
        instance._process = subprocess.Popen(["bash", "-c", script, "bash", instance.binary, "run", "-c", instance.config_path],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=instance.environment,
                                             pass_fds=[held.fileno() for held in sockets])
    return instance


def high(held):
    """The same socket with a descriptor that is in nobody's way."""
    moved = socket.socket(fileno=fcntl.fcntl(held.fileno(), fcntl.F_DUPFD, 100))
    held.close()
    return moved


@contextlib.contextmanager
def holding(*ports):
    sockets = [high(listening(port)) for port in ports]
    try:
        yield sockets
    finally:
        for held in sockets:
            held.close()


def test_whoever_holds_the_sockets_can_restart_it_without_a_refused_connection(egret, shop):
    instance = egret(start=False)
    with holding(2525, 8025) as sockets:
        early = RawSmtp()
        start_with(instance, *sockets)
        assert early.reply().startswith("220")
        with Knocking(threads=3) as clients:
            for _ in range(2):
                goal = len(clients.waits) + 60
                wait.until(lambda: len(clients.waits) >= goal, 20, "clients come and go")
                instance.stop()
                start_with(instance, *sockets)
                wait.until(lambda: instance.http(READY)[0] == 200, 15, "it is ready again")
        print(f"\n{len(clients.waits)} connections during 2 restarts: {len(clients.refused)} refused, {len(clients.reset)} reset, "
              f"{clients.told} told 421, longest wait for the banner {max(clients.waits) * 1000:.0f} ms")
        assert not clients.refused and not clients.reset
        instance.until_queue_empty()
        assert sorted(marker_of(message.data) for message in shop.messages) == sorted(clients.accepted)
        instance.stop()


def test_systemd_socket_activate_starts_it_by_the_first_connection(egret, shop):
    instance = egret(start=False)
    command = ["systemd-socket-activate", "-l", "127.0.0.1:2525", "-l", "127.0.0.1:8025", instance.binary, "run", "-c",
               instance.config_path]
    with open(instance.log_path, "ab") as log:
        instance._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=instance.environment)
    first = wait.until(lambda: RawSmtp(timeout=15), 10, "somebody listens")
    assert first.hello().startswith("250")
    send(letter())
    wait.until(lambda: shop.messages, 10, "mail flows")
    assert instance.http(READY)[0] == 200
    inode = running_file(instance)
    os.kill(instance.pid, signal.SIGUSR2)
    wait.until(lambda: "handing over" in instance.log() and instance.http(READY)[0] == 200, 20, "it replaced itself")
    assert running_file(instance) == inode
    send(letter())
    wait.until(lambda: len(shop.messages) == 2, 10, "mail flows again")


def test_what_is_not_a_listening_tcp_socket_is_refused_in_one_line(egret):
    instance = egret(start=False)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    local = socket.socket(socket.AF_UNIX)
    silent = socket.socket()
    silent.bind(("127.0.0.1", 2599))
    for wrong in (datagrams, local, silent):
        wrong = high(wrong)
        start_with(instance, wrong)
        assert instance._process.wait(15) == 2
        instance._process = None
        wrong.close()
    assert instance.log().count("is not a listening TCP socket") == 3


# ---- the queues of sockets that close


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_connections_in_the_queue_of_a_listener_that_closes_are_not_reset(egret, how):
    instance = egret(listeners=[listener(), listener(2526)])
    instance.configure(listeners=[listener()])
    os.kill(instance.pid, signal.SIGSTOP)
    clients = [RawSmtp(port=2526) for _ in range(30)]
    os.kill(instance.pid, how)
    os.kill(instance.pid, signal.SIGCONT)
    for client in clients:
        assert client.reply().startswith("220")
        client.close()
    if how == signal.SIGTERM:
        assert instance.ended() == 0


def test_sigterm_with_slow_deliveries_slow_and_idle_clients_ends_in_time(egret, shop):
    instance = egret()
    at_the_dot = threading.Event()

    def dot(session, message):
        at_the_dot.set()
        time.sleep(30)  # no wait for anything: a receiver that is too slow

    shop.on("dot", dot)
    send(letter())
    assert at_the_dot.wait(10)
    idle = [RawSmtp() for _ in range(20)]
    for client in idle:
        client.hello()
    slow = RawSmtp()
    slow.hello()
    slow.envelope("app@sender.test", "user@shop.test")
    slow.send(b"Subject: slow\r\n")
    began = time.monotonic()
    instance.terminate()
    for client in idle:
        assert client.reply().startswith("421 4.3.2")
    assert instance.ended(within=10) == 0
    print(f"\nended after {time.monotonic() - began:.1f} s")
    assert slow.closed()


# ---- what a service manager is told


class Manager:
    """The end of NOTIFY_SOCKET that a service manager listens at."""

    def __init__(self, instance, watchdog=None):
        path = os.path.join(instance.directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.said = []
        instance.environment["NOTIFY_SOCKET"] = path
        if watchdog:
            instance.environment["WATCHDOG_USEC"] = str(watchdog)

    def hears(self, what):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self.socket.recv(4096).decode().splitlines()
        return [line for line in self.said if line.startswith(what)]

    def until(self, what, timeout=10):
        wait.until(lambda: self.hears(what), timeout, f"the manager hears {what}")


def test_a_service_manager_is_told_of_every_state(egret, shop):
    instance = egret(start=False)
    manager = Manager(instance)
    instance.start()
    manager.until("READY=1")
    assert manager.said.index("EXTEND_TIMEOUT_USEC=60000000") < manager.said.index("READY=1")
    manager.until("STATUS=listening on 127.0.0.1:2525; 0 messages waiting")
    manager.said.clear()
    assert instance.command("reload").returncode == 0
    manager.until("READY=1")
    assert manager.said.index("RELOADING=1") < manager.said.index("READY=1") and manager.hears("MONOTONIC_USEC=")
    manager.said.clear()
    os.kill(instance.pid, signal.SIGUSR2)
    manager.until("READY=1", 20)
    assert "RELOADING=1" in manager.said and "STOPPING=1" not in manager.said
    instance.stop()
    manager.until("STOPPING=1")
    told = len(manager.hears("WATCHDOG=1"))
    assert told <= 2 + len(manager.hears("EXTEND_TIMEOUT_USEC=")), "without a watchdog nobody counts its signs of life"


def test_a_worker_that_hangs_lets_the_watchdog_trip(egret):
    instance = egret(start=False)
    manager = Manager(instance, watchdog=1_000_000)
    instance.start()
    wait.until(lambda: len(manager.hears("WATCHDOG=1")) >= 4, 10, "signs of life come")
    others = [task for task in os.listdir(f"/proc/{instance.pid}/task") if int(task) != instance.pid]
    tracers = [subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "inject=all:delay_enter=60000000", "-p", task],
                                stderr=subprocess.DEVNULL) for task in others]
    try:
        def silent():
            manager.hears("")
            manager.said.clear()
            time.sleep(2)  # twice the time in which one had to come
            return not manager.hears("WATCHDOG=1")
        wait.until(silent, 20, "no more signs of life")
        assert instance.http("/healthz")[0] == 200, "the control thread lives"
    finally:
        # The tracers first: they would hold what they trace.
        for tracer in tracers:
            tracer.kill()
            tracer.wait(10)
        instance.kill9()
