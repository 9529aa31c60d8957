"""A certificate authority of the suite, and one that nobody trusts."""

import hashlib
import os
import ssl
import subprocess


class Authority:
    def __init__(self, directory, name):
        self.directory = str(directory)
        os.makedirs(self.directory, exist_ok=True)
        self.certificate = os.path.join(self.directory, "ca.pem")
        self._key = os.path.join(self.directory, "ca.key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                 "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self._key, "-out", self.certificate)

    def server(self, host, chain=False):
        """The context of a server whose certificate names this host; with chain it shows the authority's own as well."""
        key, request, certificate, extensions = (
            os.path.join(self.directory, host + suffix) for suffix in (".key", ".csr", ".pem", ".ext"))
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}",
                 "-keyout", key, "-out", request)
        with open(extensions, "w") as file:
            file.write(f"subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", "30", "-extfile", extensions, "-out", certificate)
        if chain:
            with open(certificate, "a") as file, open(self.certificate) as own:
                file.write(own.read())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def key_digest(self, host):
        """SHA-256 of the public key in the certificate made for this host: what a TLSA record 3 1 1 holds."""
        return _key_digest(os.path.join(self.directory, host + ".pem"))

    def own_key_digest(self):
        """The same of the authority's certificate: what a TLSA record 2 1 1 holds."""
        return _key_digest(self.certificate)


def broken_server():
    """A server that offers TLS and cannot do it: it has no certificate, so that every handshake fails."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _key_digest(certificate):
    pem = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], check=True,
                         capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True,
                         capture_output=True).stdout
    return hashlib.sha256(der).digest()


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
