"""Listeners as the tests configure them, and the certificate that they show."""

import os

CLASSES = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}}
POOLS = {"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}}


def listener(port=2525, host="127.0.0.1", **more):
    """In clear, without AUTH and open to loopback, unless `more` says otherwise."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {"address": address, "accept": "queue", "tls": "none", "auth": "none", "allow": ["127.0.0.0/8", "::1/128"],
            "class": "transactional", **more}


def certificate(authority, host="relay.test"):
    """The section tls: a certificate for this host. Each call makes a new key and a new certificate."""
    authority.server(host)
    return {"certificate": os.path.join(authority.directory, host + ".pem"),
            "key": os.path.join(authority.directory, host + ".key")}
