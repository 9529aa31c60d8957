"""Who may log in, how, and what a log-in changes; what guessing costs."""

import base64
import concurrent.futures
import ctypes
import os
import re
import smtplib
import subprocess
import time

import pytest

from support import wait
from support.listeners import CLASSES, POOLS, certificate, listener
from support.mail import letter, receipt, trace_field
from support.raw_smtp import RawSmtp, stuffed
from support.scram_client import ScramClient, scram_login, secret
from support.tls_client import TlsSmtp, trusting

PASSWORD = "corréct horse; battery: staple"


def crypt(password, setting):
    """crypt(3) of the C library's own libcrypt."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), setting.encode()).decode()


YESCRYPT = crypt(PASSWORD, "$y$j9T$Zn5wGbTTsdGI8sWrK7g1l/$")
SHA512 = crypt(PASSWORD, "$6$saltsaltsaltsalt$")
SLOW = crypt("s3cret", "$6$rounds=2000000$saltsaltsaltsalt$")
EVERYBODY = f"# who may submit\n\nyes:{YESCRYPT}\nsha:{SHA512}\nscram:{secret(PASSWORD)}\n"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def plain(user, password, authorization=""):
    return "AUTH PLAIN " + encoded(f"{authorization}\0{user}\0{password}")


def login(client, user, password):
    """AUTH LOGIN; its last reply."""
    assert client.ask("AUTH LOGIN") == "334 " + encoded("Username:")
    assert client.ask(encoded(user)) == "334 " + encoded("Password:")
    return client.ask(encoded(password))


@pytest.fixture
def users_file(tmp_path):
    path = tmp_path / "users"
    path.write_text(EVERYBODY)
    return path


@pytest.fixture
def relay(egret, authority, users_file):
    """relay(listener settings, sections): an Egret whose only listener asks for AUTH; in clear unless told otherwise."""
    def make(auth="required", tls="none", **sections):
        return egret(users=str(users_file), tls=certificate(authority),
                     listeners=[listener(auth=auth, tls=tls)], **sections)
    return make


@pytest.fixture
def logged_in(authority):
    """logged_in(user, password): a client that has logged in by PLAIN."""
    clients = []

    def make(user, password=PASSWORD):
        clients.append(RawSmtp())
        clients[-1].hello()
        assert (reply := clients[-1].ask(plain(user, password))).startswith("235 2.7.0"), reply
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# -- the mechanisms


def test_plain_and_login_work_against_every_kind_of_entry(relay):
    relay()
    for user in ("yes", "sha", "scram"):
        for attempt in (lambda client: client.ask(plain(user, PASSWORD)),
                        lambda client: client.ask(plain(user, PASSWORD, authorization=user)),
                        lambda client: client.ask("AUTH PLAIN") == "334 " and client.ask(encoded(f"\0{user}\0{PASSWORD}")),
                        lambda client: login(client, user, PASSWORD),
                        lambda client: client.ask("auth login " + encoded(user)) and client.ask(encoded(PASSWORD))):
            with RawSmtp() as client:
                client.hello()
                assert attempt(client).startswith("235 2.7.0")
                assert client.ask("AUTH PLAIN").startswith("503")
                assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")


def test_scram_works_for_users_who_have_such_a_secret_and_the_server_proves_itself(relay):
    relay()
    for initial in (True, False):
        with RawSmtp() as client:
            assert re.search(r"^250[- ]AUTH .*\bSCRAM-SHA-256\b", client.hello(), re.M)
            assert scram_login(client, "scram", PASSWORD, initial).startswith("235 2.7.0")
            assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")


def test_scram_refuses_a_wrong_proof_and_does_not_tell_users_from_strangers(relay):
    relay()
    replies = set()
    for number, (user, password) in enumerate((("scram", "wrong"), ("yes", PASSWORD), ("nobody", PASSWORD))):
        with RawSmtp(source=f"127.0.8.{1 + number}") as client:
            client.hello()
            replies.add(scram_login(client, user, password))
            assert client.ask("MAIL FROM:<app@sender.test>").startswith("530")
    assert len(replies) == 1 and replies.pop().startswith("535 5.7.8")


def test_a_strangers_scram_challenge_looks_like_a_users(relay):
    """The same salt each time and as many iterations as the others have: else names could be tried out."""
    relay()
    challenges = {}
    for user in ("scram", "yes", "nobody", "nobody"):
        with RawSmtp() as client:
            client.hello()
            reply = client.ask("AUTH SCRAM-SHA-256 " + encoded(ScramClient(user, PASSWORD).first()))
            fields = dict(field.split("=", 1) for field in base64.b64decode(reply[4:]).decode().split(","))
            assert fields["i"] == "4096" and len(base64.b64decode(fields["s"])) == 16
            assert challenges.setdefault(user, fields["s"]) == fields["s"]
    assert len(set(challenges.values())) == 3


def test_scram_is_not_offered_where_nobody_could_use_it(relay, users_file):
    users_file.write_text(f"yes:{YESCRYPT}\n")
    relay()
    with RawSmtp() as client:
        assert re.search(r"^250[- ]AUTH PLAIN LOGIN$", client.hello(), re.M)


def test_a_refusal_says_the_same_for_a_wrong_password_and_an_unknown_user(relay):
    relay()
    replies = set()
    for number, user in enumerate(("sha", "nobody")):
        with RawSmtp(source=f"127.0.8.{1 + number}") as client:
            client.hello()
            replies.add(client.ask(plain(user, "wrong")))
    assert len(replies) == 1 and replies.pop().startswith("535 5.7.8")


WRONG = {  # the lines of the client, all but the last of which are answered by a challenge
    "for somebody else": ([plain("yes", PASSWORD, authorization="sha")], "535 5.7.8"),
    "PLAIN cancelled": (["AUTH PLAIN", "*"], "501 5.7.0"),
    "LOGIN cancelled": (["AUTH LOGIN", "*"], "501 5.7.0"),
    "not base64": (["AUTH PLAIN", "not base64!"], "501 5.5.2"),
    "no fields": (["AUTH PLAIN " + encoded("no zeros")], "501 5.5.2"),
    "an empty response": (["AUTH PLAIN ="], "501 5.5.2"),
    "no password": ([plain("yes", "")], "535 5.7.8"),
    "NUL in the password": ([plain("yes", PASSWORD + "\0tail")], "501 5.5.2"),
    "an unknown mechanism": (["AUTH CRAM-MD5"], "504 5.5.4"),
    "no mechanism": (["AUTH"], "50"),
    "channel binding": (["AUTH SCRAM-SHA-256 " + encoded("p=tls-unique,,n=scram,r=abcdefgh")], "535 5.7.8"),
    "a mandatory extension": (["AUTH SCRAM-SHA-256 " + encoded("n,,m=x,n=scram,r=abcdefgh")], "501 5.5.2"),
    "a line that is too long": (["AUTH PLAIN", "A" * 13000], "50"),
}


def test_an_exchange_that_goes_wrong_logs_nobody_in(relay):
    relay()
    for number, (what, (dialog, code)) in enumerate(WRONG.items()):
        # From an address of its own each: failures slow a client down.
        with RawSmtp(source=f"127.0.8.{1 + number}") as client:
            client.hello()
            *challenged, last = dialog
            for line in challenged:
                assert client.ask(line).startswith("334"), what
            assert (reply := client.ask(last)).startswith(code), (what, reply)
            try:
                assert client.ask("MAIL FROM:<app@sender.test>").startswith("530"), what
            except (EOFError, ConnectionError):
                assert what == "a line that is too long"  # it may also end the session


def test_commands_behind_auth_in_the_same_write_are_not_taken_for_the_users(relay):
    relay()
    with RawSmtp() as client:
        client.hello()
        client.send(plain("yes", "wrong") + "\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<user@shop.test>")
        assert client.reply()[:3] in ("503", "535")
        try:
            assert client.reply().startswith("530")
        except EOFError:
            pass


def test_auth_stands_between_ehlo_and_mail(relay):
    relay("optional")
    with RawSmtp() as client:
        client.reply()
        assert client.ask(plain("yes", PASSWORD)).startswith("503")
        assert client.ask("EHLO client.test").startswith("250")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask(plain("yes", PASSWORD)).startswith("503")


# -- real clients


def test_smtplib_logs_in_after_starttls(relay, authority, users_file, shop):
    users_file.write_text(f"app:{crypt('s3cret', '$6$salt$')}\n")  # smtplib takes ASCII only
    relay(tls="starttls")
    context = trusting(authority)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", 2525, local_hostname="client.test", timeout=10) as client:
        client.starttls(context=context)
        client.login("app", "s3cret")
        client.sendmail("app@sender.test", "user@shop.test", letter(marker="smtplib"))
    wait.until(lambda: shop.with_marker("smtplib"), 10, "it arrives")
    assert " with ESMTPSA id " in trace_field(shop.messages[0].data)


def test_msmtp_logs_in_with_each_mechanism(relay, authority, shop, tmp_path):
    instance = relay(tls="starttls")
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    for method in ("plain", "login", "scram-sha-256"):
        done = subprocess.run(
            ["msmtp", "--host=127.0.0.1", "--port=2525", "--domain=client.test", "--tls=on", "--tls-starttls=on",
             f"--tls-trust-file={authority.certificate}", "--tls-host-override=relay.test", f"--auth={method}",
             "--user=scram", f"--passwordeval=cat {password}", "--from=app@sender.test", "--file=/dev/null",
             "user@shop.test"], input=letter(marker=method), capture_output=True, timeout=20)
        assert done.returncode == 0, f"{method}: {done.stderr.decode()}"
        wait.until(lambda: shop.with_marker(method), 10, "it arrives")
    assert instance.log().count('"user":"scram"') == 3


def test_curl_logs_in_with_each_mechanism(relay, authority, shop, tmp_path):
    relay(tls="implicit")
    message = tmp_path / "message"
    for mechanism in ("PLAIN", "LOGIN"):
        message.write_bytes(letter(marker=mechanism))
        subprocess.run(["curl", "--silent", "--show-error", "--cacert", authority.certificate, "--connect-to",
                        "relay.test::127.0.0.1:", "--user", "yes:" + PASSWORD, "--login-options", f"AUTH={mechanism}",
                        "--mail-from", "app@sender.test", "--mail-rcpt", "user@shop.test", "--upload-file", message,
                        "smtps://relay.test:2525"], check=True, timeout=20)
        wait.until(lambda: shop.with_marker(mechanism), 10, "it arrives")


# -- where it is asked for


def test_auth_in_clear_is_refused_where_tls_could_be_had(relay, authority):
    relay(tls="starttls")
    with TlsSmtp(trusting(authority)) as client:
        assert "AUTH" not in client.hello()
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            assert client.ask(f"AUTH {mechanism}").startswith("538 5.7.11")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("530 5.7.0")
        client.start_tls()
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in client.ask("EHLO client.test")
        assert client.ask(plain("yes", PASSWORD)).startswith("235")


def test_required_means_everybody_whatever_allow_says(relay):
    relay("required")
    with RawSmtp() as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("530 5.7.0")
        assert client.ask("MAIL FROM:<>").startswith("530 5.7.0")
        assert client.ask("RCPT TO:<user@shop.test>")[:3] in ("503", "530")
        assert client.ask("DATA")[:3] in ("503", "530", "554")
        assert client.ask("NOOP").startswith("250")


def test_optional_lets_allowed_networks_in_without_and_strangers_with_a_log_in(egret, users_file):
    egret(users=str(users_file), listeners=[listener(auth="optional", allow=["127.0.0.1/32"])])
    with RawSmtp() as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("250")
    with RawSmtp(source="127.0.9.9") as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("550 5.7.1")
        assert client.ask("RSET").startswith("250")
        assert client.ask(plain("sha", PASSWORD)).startswith("235")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("250")


def test_a_log_in_lasts_as_long_as_the_session(relay):
    relay()
    with RawSmtp() as client:
        client.hello()
        assert client.ask(plain("yes", PASSWORD)).startswith("235")
        assert client.ask("EHLO again.test").startswith("250")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
    with RawSmtp() as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("530")


def test_a_listener_without_auth_refuses_it(egret, users_file):
    egret(users=str(users_file), listeners=[listener(auth="none")])
    with RawSmtp() as client:
        assert "AUTH" not in client.hello()
        assert client.ask(plain("yes", PASSWORD)).startswith("502 5.5.1")


# -- what a log-in changes


def submit(client, marker, **more):
    client.envelope("app@sender.test", "user@shop.test")
    client.send(stuffed(letter(marker=marker, **more)))
    return receipt(client.reply()).id


def test_the_user_decides_about_the_class_after_the_rules_and_before_the_listener(relay, users_file, logged_in, shop):
    users_file.write_text(f"yes:{YESCRYPT}\nsha:{SHA512}:class=bulk\nscram:{secret(PASSWORD)}:class=bulk\n")
    instance = relay(classes=CLASSES, pools=POOLS, classify=[
        {"user": "yes", "class": "bulk"}, {"user": "scram", "class": "transactional"}])
    for user, expected in (("yes", "bulk"), ("scram", "transactional"), ("sha", "bulk")):
        assert instance.message(submit(logged_in(user), user))["class"] == expected
        assert re.search(rf'"accepted".*"class":"{expected}","user":"{user}"', instance.log())
    wait.until(lambda: len(shop.messages) == 3, 10, "all arrive")


def test_a_users_rate_counts_recipients_over_sessions_and_says_how_long_to_wait(relay, users_file, logged_in):
    users_file.write_text(f"yes:{YESCRYPT}:rate=3/h\nsha:{SHA512}\n")
    relay(limits={"rate_per_client": "1/h"})
    client = logged_in("yes")
    assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
    for number in range(3):
        assert client.ask(f"RCPT TO:<user{number}@shop.test>").startswith("250")
    refused = client.ask("RCPT TO:<user3@shop.test>")
    again = logged_in("yes").ask("MAIL FROM:<app@sender.test>")
    for reply in (refused, again):
        assert (seconds := re.fullmatch(r"450 4\.7\.1 user yes .* 3 recipients in .*: try again in (\d+) s", reply)), reply
        assert 3500 < int(seconds[1]) <= 3600
    # The others have their own counts, and a user is not counted by his address.
    client = logged_in("sha")
    assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
    for number in range(5):
        assert client.ask(f"RCPT TO:<user{number}@shop.test>").startswith("250")


def test_what_fits_a_rate_is_delivered_and_the_count_begins_anew_after_the_period(relay, users_file, logged_in, shop):
    users_file.write_text(f"yes:{YESCRYPT}:rate=1/s\n")
    relay()
    client = logged_in("yes")
    submit(client, "first")
    reply = client.ask("MAIL FROM:<app@sender.test>")
    assert re.search(r"^450 4\.7\.1 .*try again in 1 s$", reply), reply
    wait.until(lambda: client.ask("MAIL FROM:<app@sender.test>").startswith("250"), 5, "there is room again", interval=0.2)
    client.ask("RSET")
    submit(client, "second")
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")


# -- the users file changes


def test_users_come_and_go_without_a_restart(relay, users_file, logged_in):
    users_file.write_text(f"yes:{YESCRYPT}\nsha:{SHA512}\n")
    instance = relay()
    logged_in("yes")
    users_file.write_text(f"new:{SHA512}\nyes:{crypt('another', '$6$salt$')}\nscram:{secret(PASSWORD)}\n")
    wait.until(lambda: "users read again" in instance.log(), 5, "the file is read again")
    logged_in("new")
    logged_in("yes", "another")
    with RawSmtp() as client:
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in client.hello()  # somebody can use it now
        assert scram_login(client, "scram", PASSWORD).startswith("235")
    with RawSmtp() as client:
        client.hello()
        assert client.ask(plain("yes", PASSWORD)).startswith("535")  # remembered from before, and no longer true
    with RawSmtp() as client:
        client.hello()
        assert client.ask(plain("sha", PASSWORD)).startswith("535")


def test_a_broken_users_file_keeps_the_old_users_and_is_reported_with_its_line(relay, users_file, logged_in):
    instance = relay()
    for broken in (f"new:{YESCRYPT}:class=nothing\n", f"new:{YESCRYPT[:-3]}\n", None):
        known = instance.log().count("the users stay as they were")
        if broken:
            users_file.write_text("# one line\n" + broken)
        else:
            os.remove(users_file)
        wait.until(lambda: instance.log().count("the users stay as they were") > known, 5, "the log says so")
        logged_in("yes")
    assert instance.log().count(f"{users_file}:2:") == 2
    users_file.write_text(EVERYBODY + f"new:{SHA512}\n")
    wait.until(lambda: "users read again" in instance.log(), 5, "the mended file is read")
    logged_in("new")


def test_an_unusable_users_file_stops_the_start(egret, users_file):
    users_file.write_text("somebody:secret\n")
    instance = egret(start=False, users=str(users_file), listeners=[listener(auth="required")])
    code, said = instance.run_to_end()
    assert code != 0 and f"{users_file}:1:" in said and "secret" not in said


# -- egret hash-password


def hash_password(instance, *arguments, password=PASSWORD + "\n"):
    done = subprocess.run([instance.binary, "hash-password", *arguments], input=password, capture_output=True, text=True,
                          timeout=20)
    return done.returncode, done.stdout.removesuffix("\n"), done.stderr


def test_hash_password_makes_entries_that_work(relay, users_file, logged_in):
    instance = relay()
    code, made, _ = hash_password(instance)
    assert code == 0 and made.startswith("$y$") and crypt(PASSWORD, made) == made
    assert hash_password(instance)[1] != made  # another salt
    code, scram, _ = hash_password(instance, "--scram")
    iterations, salt = re.match(r"SCRAM-SHA-256\$(\d+):([^$]+)\$", scram).groups()
    assert code == 0 and secret(PASSWORD, base64.b64decode(salt), int(iterations)) == scram
    users_file.write_text(f"one:{made}\ntwo:{scram}\n")
    wait.until(lambda: "users read again" in instance.log(), 5, "the file is read again")
    logged_in("one")
    logged_in("two")
    with RawSmtp() as client:
        client.hello()
        assert scram_login(client, "two", PASSWORD).startswith("235")


def test_hash_password_refuses_an_empty_password(egret):
    instance = egret(start=False)
    for arguments in ([], ["--scram"]):
        code, made, said = hash_password(instance, *arguments, password="\n")
        assert code == 1 and made == "" and "empty" in said


# -- guessing


def timed(operation):
    begun = time.monotonic()
    result = operation()
    return result, time.monotonic() - begun


def test_each_failure_costs_more_time_and_after_ten_the_client_is_turned_away(relay):
    instance = relay()
    with RawSmtp(source="127.0.8.1", timeout=20) as client:
        client.hello()
        times = []
        for _ in range(3):
            reply, took = timed(lambda: client.ask(plain("sha", "wrong")))
            assert reply.startswith("535")
            times.append(took)
    assert times[0] >= 0.5 and times[1] >= 1.0 and times[2] >= 2.0 and times[2] < 4, times

    def guess(_):
        with RawSmtp(source="127.0.8.1", timeout=20) as client:
            client.hello()
            client.send(plain("sha", "wrong"))
            wait.until(lambda: instance.log().count("log-in refused") >= 10, 10, "ten failures")

    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        list(pool.map(guess, range(7)))
    for attempt in (lambda client: client.ask(plain("sha", PASSWORD)), lambda client: login(client, "sha", PASSWORD),
                    lambda client: scram_login(client, "scram", PASSWORD)):
        with RawSmtp(source="127.0.8.1") as client:
            client.hello()
            reply, took = timed(lambda: attempt(client))
            assert reply.startswith("421 4.7.0") and took < 1, reply
            assert client.closed()
    # It is the client that is turned away, not the user.
    with RawSmtp(source="127.0.8.2") as client:
        client.hello()
        assert client.ask(plain("sha", PASSWORD)).startswith("235")


def test_a_waiting_guesser_and_a_slow_hash_hold_up_nobody_else(relay, users_file):
    users_file.write_text(f"slow:{SLOW}\nsha:{SHA512}\n")
    relay("optional", threads=1)
    with RawSmtp(source="127.0.8.1") as slow, RawSmtp(source="127.0.8.2") as wrong, RawSmtp() as other:
        for client in (slow, wrong, other):
            client.hello()
        wrong.send(plain("sha", "wrong"))
        begun = time.monotonic()
        slow.send(plain("slow", "s3cret"))
        slow.socket.setblocking(False)
        worst, answered = 0, False
        while not answered:
            _, took = timed(lambda: other.ask("NOOP"))
            worst = max(worst, took)
            assert time.monotonic() - begun < 20
            try:
                answered = slow.socket.recv(1000).startswith(b"235")
            except BlockingIOError:
                time.sleep(0.02)
        assert time.monotonic() - begun > 0.5, "the hash is not slow enough to show anything"
        assert worst < 0.1, worst
        assert wrong.reply().startswith("535")


def test_a_password_is_never_logged(relay, logged_in):
    instance = relay()
    logged_in("yes")
    with RawSmtp() as client:
        client.hello()
        client.ask(plain("sha", "a wrong one"))
    for text in ("horse", "wrong one", encoded(PASSWORD), plain("sha", "a wrong one")[11:]):
        assert text not in instance.log()
