"""The web server from which MTA-STS policies are fetched (RFC 8461, section 3.3): one for any number of domains."""

import http.server
import threading
import time


def policy(mode, *hosts, max_age=86400):
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts), f"max_age: {max_age}"]
    return "".join(line + "\r\n" for line in lines)


class PolicyHost:
    """HTTPS on port 443 of its address. policies: {domain: text}; redirects: {domain: where it is sent instead};
    delay: seconds before each answer; requests: the domains asked for, in order."""

    def __init__(self, address, context):
        self.address = address
        self.policies = {}
        self.requests = []
        self.redirects = {}
        self.delay = 0
        self._context = context
        self._server = None

    def start(self):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                domain = self.headers.get("Host", "").removeprefix("mta-sts.")
                owner.requests.append(domain)
                text = owner.policies.get(domain) if self.path == "/.well-known/mta-sts.txt" else None
                body = (text or "no such policy\n").encode()
                time.sleep(owner.delay)
                elsewhere = owner.redirects.get(domain)
                self.send_response(302 if elsewhere else 404 if text is None else 200)
                if elsewhere:
                    self.send_header("Location", elsewhere)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # a client that does not trust us hangs up
                pass

        self._server = Server((self.address, 443), Handler)
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True,
                                                        do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
