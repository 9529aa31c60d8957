"""A receiver of webhooks, as docs/alerts.md tells operators to write one: it believes only what is signed."""

import dataclasses
import hashlib
import hmac
import http.server
import json
import threading
import time

HANG = object()


@dataclasses.dataclass(frozen=True)
class Request:
    time: float
    path: str
    headers: dict
    body: bytes
    genuine: bool

    @property
    def alert(self):
        return json.loads(self.body)


def genuine(secret, headers, body, tolerance=300):
    timestamp = headers.get("X-Egret-Timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > tolerance:
        return False
    expected = "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, headers.get("X-Egret-Signature", ""))


class HookReceiver:
    """answers: what the next requests get, in order: a status, (status, {header: value}), a whole response as octets, or HANG;
    then `otherwise`, 200 unless told otherwise. requests: everything that came in."""

    def __init__(self, address="127.0.0.1", port=8080, secret="s3cret", tls=None):
        self.address, self.port, self.secret = address, port, secret
        self.requests = []
        self.answers = []
        self.otherwise = 200
        self._tls = tls
        self._server = None
        self._ended = threading.Event()

    @property
    def url(self):
        return f"http://{self.address}:{self.port}/hook"

    @property
    def taken(self):
        """The alerts of requests that were genuine."""
        return [request.alert for request in self.requests if request.genuine]

    def start(self):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = dict(self.headers)
                answer = owner.answers.pop(0) if owner.answers else owner.otherwise
                owner.requests.append(Request(time.monotonic(), self.path, headers, body,
                                              genuine(owner.secret, headers, body)))
                if answer is HANG:
                    owner._ended.wait(60)
                    return
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    return
                status, more = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # a client that does not trust us hangs up
                pass

        self._server = Server((self.address, self.port), Handler)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True,
                                                        do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self._ended.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
