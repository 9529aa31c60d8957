"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) and the secrets it fits, with hashlib and nothing else."""

import base64
import hashlib
import hmac
import secrets


def _mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def _base64(data):
    return base64.b64encode(data).decode()


def secret(password, salt=b"sixteen octets!!", iterations=4096):
    """The entry of a users file: SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, as PostgreSQL writes it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    server = _mac(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


class ScramClient:
    def __init__(self, user, password, header="n,,"):
        self.user = user.replace("=", "=3D").replace(",", "=2C")
        self.password = password
        self.header = header
        self.nonce = secrets.token_urlsafe(18)

    def first(self):
        self._first_bare = f"n={self.user},r={self.nonce}"
        return self.header + self._first_bare

    def final(self, server_first):
        """The proof; keeps what the server has to prove in turn."""
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) > len(self.nonce) + 16
        self.iterations, self.salt = int(fields["i"]), base64.b64decode(fields["s"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.iterations)
        without_proof = f"c={_base64(self.header.encode())},r={fields['r']}"
        text = ",".join((self._first_bare, server_first, without_proof)).encode()
        key = _mac(salted, b"Client Key")
        signature = _mac(hashlib.sha256(key).digest(), text)
        self._server_signature = _mac(_mac(salted, b"Server Key"), text)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        return f"{without_proof},p={_base64(proof)}"

    def is_proved_by(self, server_final):
        """Whether the server knows the secret too."""
        return server_final == "v=" + _base64(self._server_signature)


def scram_login(client, user, password, initial=True):
    """AUTH SCRAM-SHA-256 over a RawSmtp; the last reply. The server's signature is checked."""
    scram = ScramClient(user, password)
    if initial:
        reply = client.ask("AUTH SCRAM-SHA-256 " + _base64(scram.first().encode()))
    else:
        reply = client.ask("AUTH SCRAM-SHA-256")
        assert reply.startswith("334"), reply
        reply = client.ask(_base64(scram.first().encode()))
    if not reply.startswith("334 "):
        return reply
    reply = client.ask(_base64(scram.final(base64.b64decode(reply[4:]).decode()).encode()))
    if not reply.startswith("334 "):
        return reply
    assert scram.is_proved_by(base64.b64decode(reply[4:]).decode()), "the server did not prove that it knows the secret"
    return client.ask("")
