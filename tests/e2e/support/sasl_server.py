"""The server side of the AUTH mechanisms in which no password travels: CRAM-MD5 (RFC 2195) and SCRAM-SHA-256 (RFC 7677).

Written from the RFCs and from nothing of Egret's, so that a mistake which client and server share cannot hide.
"""

import base64
import hashlib
import hmac
import secrets

ITERATIONS = 4096


class Failed(Exception):
    """The client's answer is wrong."""


def cram_md5(session, users):
    """The user who logged in."""
    challenge = f"<{secrets.token_hex(8)}@{session.receiver.name}>".encode()
    user, _, digest = base64.b64decode(session.ask(challenge)).decode().rpartition(" ")
    expected = hmac.new(users.get(user, "").encode(), challenge, hashlib.md5).hexdigest()
    if user not in users or not hmac.compare_digest(digest, expected):
        raise Failed
    return user


def scram_sha_256(session, users, initial):
    """The user who logged in. The receiver's script may answer the phase scram: a text takes the place of the server's
    last message, an empty one leaves it out."""
    first = base64.b64decode(initial or session.ask(b"")).decode()
    header, _, bare = first.partition(",,")
    if header not in ("n", "y"):
        raise Failed
    client = _attributes(bare)
    user = client["n"].replace("=2C", ",").replace("=3D", "=")
    password = users.get(user, "")
    nonce, salt = client["r"] + secrets.token_urlsafe(18), secrets.token_bytes(16)
    server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i={ITERATIONS}"
    final = base64.b64decode(session.ask(server_first.encode())).decode()
    without_proof, _, proof = final.rpartition(",p=")
    answer = _attributes(without_proof)
    signed = f"{bare},{server_first},{without_proof}".encode()

    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key = _hmac(salted, b"Client Key")
    stored_key = hashlib.sha256(client_key).digest()
    offered = bytes(a ^ b for a, b in zip(base64.b64decode(proof), _hmac(stored_key, signed)))
    right = (user in users and answer["r"] == nonce and base64.b64decode(answer["c"]) == (header + ",,").encode()
             and hashlib.sha256(offered).digest() == stored_key)
    if not right:
        raise Failed
    signature = base64.b64encode(_hmac(_hmac(salted, b"Server Key"), signed)).decode()
    scripted = session.ask_script("scram", user)
    last = f"v={signature}" if scripted is None else scripted
    if last and session.ask(last.encode()) != b"":
        raise Failed
    return user


def _hmac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def _attributes(message):
    return dict(part.split("=", 1) for part in message.split(","))
