"""A stub of Vault's transit engine, built from its public API: versions of a key, encrypt, decrypt, config, trim.

HTTP on a loopback port, in a thread. What it knows lies in a file, so that it outlives the process that runs it, as the
real one would. It refuses what the API documents as refused, and nothing else of Vault is there.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "s.stub-token"


class TransitKey(TypedDict):
    """A named key."""

    versions: dict[str, str]
    latest_version: int
    min_decryption_version: int
    min_encryption_version: int
    min_available_version: int


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Vault:
    """The engine, mounted at `transit`; `keys` is what an attacker of Vault itself would get."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: dict[str, TransitKey] = json.loads(path.read_text()) if path.exists() else {}
        self.is_sealed = False
        self.token = TOKEN
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, token: str | None, body: dict[str, object]) -> dict[str, object]:
        """What is answered to a request; raises `Refused`."""
        with self._lock:
            if self.is_sealed:
                raise Refused(503, "Vault is sealed")
            if token != self.token:
                raise Refused(403, "permission denied")
            match method, path.removeprefix("/v1/transit/").split("/"):
                case "GET", ["keys", name]:
                    told = self._key(name)
                    return {each: value for each, value in told.items() if each != "versions"} | {"name": name}
                case "POST", ["keys", name]:
                    self._make(name, body)
                case "POST", ["keys", name, "rotate"]:
                    self._rotate(self._key(name))
                case "POST", ["keys", name, "config"]:
                    self._configure(self._key(name), body)
                case "POST", ["keys", name, "trim"]:
                    self._trim(self._key(name), _number(body, "min_available_version"))
                case "POST", ["encrypt", name]:
                    return self._encrypt(self._key(name), body)
                case "POST", ["decrypt", name]:
                    return self._decrypt(self._key(name), body)
                case _:
                    raise Refused(404, "no handler for route")
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(self.keys))
            os.replace(partial, self._path)
            return {}

    def _key(self, name: str) -> TransitKey:
        if name not in self.keys:
            raise Refused(404, "")
        return self.keys[name]

    def _make(self, name: str, body: dict[str, object]) -> None:
        if body.get("type", "aes256-gcm96") != "aes256-gcm96":
            raise Refused(400, "unknown key type")
        if name not in self.keys:
            self.keys[name] = TransitKey(
                versions={},
                latest_version=0,
                min_decryption_version=1,
                min_encryption_version=0,
                min_available_version=0,
            )
            self._rotate(self.keys[name])

    @staticmethod
    def _rotate(key: TransitKey) -> None:
        key["latest_version"] += 1
        key["versions"][str(key["latest_version"])] = secrets.token_hex(32)

    @staticmethod
    def _configure(key: TransitKey, body: dict[str, object]) -> None:
        decryption = _number(body, "min_decryption_version", key["min_decryption_version"])
        encryption = _number(body, "min_encryption_version", key["min_encryption_version"])
        if not max(decryption, encryption) <= key["latest_version"]:
            raise Refused(400, "cannot set min version beyond the latest")
        if 0 < encryption < decryption:
            raise Refused(400, "cannot set min_encryption_version below min_decryption_version")
        key["min_decryption_version"], key["min_encryption_version"] = decryption, encryption

    @staticmethod
    def _trim(key: TransitKey, available: int) -> None:
        if available < key["min_available_version"]:
            raise Refused(400, "minimum available version cannot be decremented")
        if key["min_encryption_version"] == 0 or key["min_decryption_version"] == 0:
            raise Refused(400, "minimum available version cannot be set when a minimum version is not set")
        if available > min(key["min_encryption_version"], key["min_decryption_version"]):
            raise Refused(400, "minimum available version cannot be higher than the minimum versions")
        key["min_available_version"] = available
        for version in [each for each in key["versions"] if int(each) < available]:
            del key["versions"][version]

    @staticmethod
    def _encrypt(key: TransitKey, body: dict[str, object]) -> dict[str, object]:
        version = _number(body, "key_version", 0) or key["latest_version"]
        if str(version) not in key["versions"] or version < key["min_encryption_version"]:
            raise Refused(400, "requested version for encryption is less than the minimum encryption key version")
        nonce = secrets.token_bytes(12)
        plain, bound_to = b64decode(str(body["plaintext"])), b64decode(str(body.get("associated_data", "")))
        sealed = AESGCM(bytes.fromhex(key["versions"][str(version)])).encrypt(nonce, plain, bound_to)
        return {"ciphertext": f"vault:v{version}:{b64encode(nonce + sealed).decode()}", "key_version": version}

    @staticmethod
    def _decrypt(key: TransitKey, body: dict[str, object]) -> dict[str, object]:
        prefix, version, text = str(body["ciphertext"]).split(":", 2)
        number = int(version.removeprefix("v"))
        if prefix != "vault" or number < key["min_decryption_version"] or str(number) not in key["versions"]:
            raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        bound_to = b64decode(str(body.get("associated_data", "")))
        try:
            sealed = b64decode(text, validate=True)
            plain = AESGCM(bytes.fromhex(key["versions"][str(number)])).decrypt(sealed[:12], sealed[12:], bound_to)
        except (InvalidTag, ValueError):
            raise Refused(400, "cipher: message authentication failed") from None
        return {"plaintext": b64encode(plain).decode()}


def _number(body: dict[str, object], name: str, absent: int | None = None) -> int:
    found = body.get(name, absent)
    if not isinstance(found, int):
        raise Refused(400, f"missing {name}")
    return found


@contextmanager
def running_vault(path: Path) -> Iterator[tuple[Vault, str]]:
    """The stub and its URL, for as long as the block lasts."""
    vault = Vault(path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _answer(self, method: str) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = 200, b""
            try:
                told = vault.answer(method, self.path, self.headers["X-Vault-Token"], json.loads(content or b"{}"))
                status, body = (200, json.dumps({"data": told}).encode()) if told else (204, b"")
            except Refused as refused:
                status, body = refused.status, json.dumps({"errors": [str(refused)]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vault, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
