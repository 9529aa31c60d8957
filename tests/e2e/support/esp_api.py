"""The HTTP APIs of ESPs, as their documentation describes them: SES v2 (signatures checked by botocore), Mailgun, SparkPost."""

import base64
import dataclasses
import email.parser
import email.policy
import http.server
import json
import threading

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CLOSE = object()  # as an answer: the connection ends without one
HANG = object()  # nothing comes, and the connection stays


@dataclasses.dataclass(frozen=True)
class Message:
    sender: str
    recipients: list
    data: bytes
    orders: dict  # what else the request says


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict
    body: bytes
    connection: int


class EspApi:
    """answers: what the next submissions get, in order: (status, document) or (status, document, headers), CLOSE or HANG; then
    200 with an id. requests: everything that came; messages: what was taken."""

    def __init__(self, kind, address, tls, port=443, region="eu-west-1", user="AKIAEXAMPLE",
                 secret="s3cret/Key+", domain="mg.sender.test"):
        self.kind, self.address, self.port, self.region = kind, address, port, region
        self.user, self.secret, self.domain = user, secret, domain
        self.requests, self.messages, self.answers = [], [], []
        self.account = {"DedicatedIpAutoWarmupEnabled": False, "EnforcementStatus": "HEALTHY", "ProductionAccessEnabled": True,
                        "SendingEnabled": True,
                        "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 1200.0}}
        self.account_status = 200
        self.connections = 0
        self.read_limit = None  # a longer body is refused unread
        self.close_after_answer = False
        self._tls = tls
        self._ended = threading.Event()

    @property
    def submissions(self):
        return [request for request in self.requests if request.method == "POST"]

    def with_marker(self, marker):
        return [message for message in self.messages if f"X-Marker: {marker}\r\n".encode() in message.data]

    def start(self):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                owner.connections += 1
                self.number = owner.connections

            def handle_any(self):
                length = int(self.headers.get("Content-Length", 0))
                if owner.read_limit is not None and length > owner.read_limit:
                    self.reply(413, {"message": "Request too large"})
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                if len(body) < length:
                    self.close_connection = True
                    return
                request = Request(self.command, self.path, dict(self.headers), body, self.number)
                owner.requests.append(request)
                answer = owner.answer(request)
                if answer is HANG:
                    owner._ended.wait(60)
                if answer in (HANG, CLOSE):
                    self.close_connection = True
                    return
                self.reply(*answer)
                if owner.close_after_answer:
                    self.close_connection = True

            do_POST = do_GET = handle_any

            def reply(self, status, document, headers=()):
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):  # a client that does not trust us hangs up
                pass

        self._server = Server((self.address, self.port), Handler)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    # -- what it answers

    def answer(self, request):
        refusal = getattr(self, f"_login_{self.kind}")(request)
        if refusal:
            return refusal
        if request.method == "GET":
            return (self.account_status, self.account if self.account_status == 200 else {"message": "no"})
        message = getattr(self, f"_read_{self.kind}")(request)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None and not (isinstance(answer, tuple) and answer[0] == 200):
            return answer
        self.messages.append(message)
        number = len(self.messages)
        documents = {"ses": {"MessageId": f"0102018f-{number:06d}"},
                     "mailgun": {"id": f"<2024.{number}@{self.domain}>", "message": "Queued. Thank you."},
                     "sparkpost": {"results": {"total_rejected_recipients": 0, "total_accepted_recipients": len(message.recipients),
                                               "id": f"1166878748495{number:04d}"}}}
        return answer or (200, documents[self.kind])

    def _login_ses(self, request):
        """Amazon's side of Signature Version 4, from the octets that came."""
        value = request.headers.get("Authorization", "")
        if not value.startswith("AWS4-HMAC-SHA256 "):
            return (403, {"message": "Missing Authentication Token"}, {"x-amzn-ErrorType": "MissingAuthenticationTokenException"})
        fields = dict(part.split("=", 1) for part in value.split(" ", 1)[1].split(", "))
        names = fields["SignedHeaders"].split(";")
        assert "host" in names and "x-amz-date" in names
        given = {name.lower(): text for name, text in request.headers.items()}
        signed = AWSRequest(request.method, f"https://{given['host']}{request.path}",
                            {name: given[name] for name in names}, request.body)
        signed.context["timestamp"] = given["x-amz-date"]
        auth = SigV4Auth(Credentials(self.user, self.secret), "ses", self.region)
        expected = auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
        if fields["Credential"] != auth.scope(signed) or fields["Signature"] != expected:
            return (403, {"message": "The request signature we calculated does not match the signature you provided. Check your "
                                     "AWS Secret Access Key and signing method."},
                    {"x-amzn-ErrorType": "SignatureDoesNotMatch:http://internal.amazon.com/coral/com.amazon.coral.service/"})
        return None

    def _login_mailgun(self, request):
        wanted = "Basic " + base64.b64encode(f"api:{self.secret}".encode()).decode()
        return None if request.headers.get("Authorization") == wanted else (401, b"Forbidden")

    def _login_sparkpost(self, request):
        good = request.headers.get("Authorization") == self.secret
        return None if good else (401, {"errors": [{"message": "Unauthorized."}]})

    # -- what a submission says

    def _read_ses(self, request):
        assert request.path == "/v2/email/outbound-emails" and request.headers["Content-Type"] == "application/json"
        document = json.loads(request.body)
        data = base64.b64decode(document["Content"]["Raw"]["Data"], validate=True)
        orders = {name: value for name, value in document.items() if name not in ("Content", "Destination", "FromEmailAddress")}
        assert list(document["Destination"]) == ["ToAddresses"]
        return Message(document.get("FromEmailAddress"), document["Destination"]["ToAddresses"], data, orders)

    def _read_mailgun(self, request):
        assert request.path == f"/v3/{self.domain}/messages.mime"
        boundary = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
            f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()).get_boundary()
        line = b"--" + boundary.encode()
        assert request.body.startswith(line + b"\r\n") and request.body.endswith(b"\r\n" + line + b"--\r\n")
        recipients, data = [], None
        for part in request.body[len(line) + 2:-len(line) - 6].split(b"\r\n" + line + b"\r\n"):
            head, content = part.split(b"\r\n\r\n", 1)
            if b'name="to"' in head:
                recipients.append(content.decode())
            else:
                assert b'name="message"; filename=' in head and data is None
                data = content
        return Message(None, recipients, data, {})

    def _read_sparkpost(self, request):
        assert request.path == "/api/v1/transmissions"
        document = json.loads(request.body)
        recipients = [recipient["address"]["email"] for recipient in document["recipients"]]
        return Message(document.get("return_path"), recipients, document["content"]["email_rfc822"].encode("ascii"),
                       document["options"])
