"""Keys for DKIM, the records that publish them, and two verifiers that share nothing with Egret: dkimpy and OpenDKIM."""

import os
import re
import subprocess

import dkim
import dns.resolver
from dnslib import QTYPE, TXT


class Keys:
    """Private keys in a directory, made once, whose public halves stand in the suite's DNS."""

    def __init__(self, directory, dns):
        self.directory = str(directory)
        self.dns = dns
        os.makedirs(self.directory, exist_ok=True)

    def make(self, domain, selector, algorithm="rsa"):
        """An entry for the configuration's dkim section."""
        path = os.path.join(self.directory, f"{selector}.{domain}.pem")
        kind = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if algorithm == "rsa" else ["ED25519"]
        if not os.path.exists(path):
            subprocess.run(["openssl", "genpkey", "-algorithm", *kind, "-out", path], check=True, capture_output=True)
        der = subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], check=True,
                             capture_output=True).stdout
        # RFC 8463, section 4: of an Ed25519 key the bare 32 octets, without the ASN.1 around them.
        octets = der if algorithm == "rsa" else der[-32:]
        record = f"v=DKIM1; k={algorithm}; p={_base64(octets)}"
        pieces = [record[at:at + 255] for at in range(0, len(record), 255)]
        self.dns.add(f"{selector}._domainkey.{domain}", QTYPE.TXT, TXT(pieces))
        return {"domain": domain, "selector": selector, "key": path}


def _base64(octets):
    return subprocess.run(["openssl", "base64", "-A"], input=octets, check=True, capture_output=True).stdout.decode()


def _txt(name, timeout=5):
    """What dkimpy looks a key up with."""
    (record,) = dns.resolver.resolve(name.decode(), "TXT", lifetime=timeout)
    return b"".join(record.strings)


def signatures(message):
    """The tags of each DKIM-Signature field, from the top down; h= as a list of lower-case names."""
    found = []
    for field in re.findall(rb"^DKIM-Signature[ \t]*:((?:.*\r\n)(?:[ \t].*\r\n)*)", message, re.M | re.I):
        text = re.sub(rb"\s+", b"", field).decode()
        tags = dict(part.split("=", 1) for part in text.rstrip(";").split(";"))
        tags["h"] = tags["h"].lower().split(":")
        found.append(tags)
    return found


def verified(message):
    """(domain, selector, algorithm) of every signature, each of which must hold in dkimpy's eyes."""
    tags = signatures(message)
    for index, signature in enumerate(tags):
        verifier = dkim.DKIM(message)
        assert verifier.verify(idx=index, dnsfunc=_txt), f"dkimpy: the signature by {signature['s']} does not hold"
    return [(signature["d"], signature["s"], signature["a"]) for signature in tags]


def holds(message, index=0):
    """Whether this signature holds."""
    try:
        return dkim.DKIM(message).verify(idx=index, dnsfunc=_txt)
    except dkim.DKIMException:
        return False


def opendkim_agrees(message):
    """OpenDKIM's verdict on the message, and what it said."""
    done = subprocess.run(["/usr/sbin/opendkim-testmsg"], input=message, capture_output=True, timeout=20)
    return done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
