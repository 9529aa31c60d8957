#!/usr/bin/python3
"""Who may include whom: smtp <- routing <- config <- relay. Fails on the first breach it finds, naming every one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["smtp", "routing", "config", "relay"]
# Heavy libraries stay out of headers, and sockets out of the pure layers.
PURE_FORBIDDEN = re.compile(r"boost/asio|boost/beast|openssl/|sqlite3\.h|ares\.h|sys/socket\.h|spdlog/")
# Digests and signatures are functions on octets: libcrypto's, without sockets or randomness.
SMTP_ALLOWED = re.compile(r"openssl/(bio|crypto|err|evp|hmac|pem|rsa|sha|x509|core_names|params)\.h$")
HEADER_FORBIDDEN = re.compile(r"openssl/|sqlite3\.h|ares\.h|yaml-cpp/|spdlog/|re2/")

problems = []
for rank, layer in enumerate(LAYERS):
    for path in sorted((ROOT / layer).rglob("*.[ch]pp")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#include\s+["<]([^">]+)[">]', line)
            if not found:
                continue
            name, where = found.group(1), f"{path.relative_to(ROOT)}:{number}"
            top = name.split("/")[0]
            if top in LAYERS and LAYERS.index(top) > rank:
                problems.append(f"{where}: {layer} must not include {name}")
            if layer == "smtp" and path.suffix == ".cpp" and SMTP_ALLOWED.match(name):
                continue
            if layer != "relay" and PURE_FORBIDDEN.search(name):
                problems.append(f"{where}: {layer} must be free of {name}")
            if path.suffix == ".hpp" and HEADER_FORBIDDEN.search(name):
                problems.append(f"{where}: {name} in a header")
print("\n".join(problems) or "layers: ok")
sys.exit(bool(problems))
