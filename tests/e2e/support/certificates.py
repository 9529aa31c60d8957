"""A certificate authority of the suite, and one that nobody trusts."""

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

    def server(self, host):
        """The context of a server whose certificate names this host."""
        key, request, certificate, extensions = (
            os.path.join(self.directory, host + suffix) for suffix in (".key", ".csr", ".pem", ".ext"))
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}",
                 "-keyout", key, "-out", request)
        with open(extensions, "w") as file:
            file.write(f"subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                 "-days", "30", "-extfile", extensions, "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
