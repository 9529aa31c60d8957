"""A listener whose client waits for the receivers, and clients that look at the verdict octet by octet."""

import os

from .mail import SENDER
from .raw_smtp import RawSmtp, stuffed


def listener(**more):
    """The test configuration's listener, passing through."""
    return {"address": "127.0.0.1:2525", "accept": "pass-through", "tls": "none", "auth": "none",
            "allow": ["127.0.0.0/8"], "class": "transactional", **more}


def begin(content, to="user@shop.test", sender=SENDER, timeout=20):
    """A transaction up to its final dot; the verdict is what the returned client's reply() says."""
    client = RawSmtp(timeout=timeout)
    client.hello()
    client.envelope(sender, *([to] if isinstance(to, str) else to))
    client.send(stuffed(content))
    return client


def verdict(content, to="user@shop.test", sender=SENDER):
    """The whole reply to the final dot, its lines joined by newlines."""
    with begin(content, to, sender) as client:
        return client.reply()


def spool_state(instance):
    """What every write to the spool would change: the files with their sizes, blocks and times of modification."""
    found = {}
    for folder, _, names in os.walk(os.path.join(instance.data_dir, "spool")):
        for name in names:
            path = os.path.join(folder, name)
            status = os.stat(path)
            found[path] = (status.st_size, status.st_blocks, status.st_mtime_ns)
    return found
