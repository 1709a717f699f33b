"""Key stores for tests: on both engines, over a key file or a Vault, with what an attacker would look at."""

from __future__ import annotations

import shutil
from pathlib import Path

from policy.parties import TrustId
from storage.engines import DatabaseSettings
from storage.keyring.key_file import KeyFile
from storage.keyring.keyring import Keyring, KeyringSettings
from storage.keyring.vault import VaultSettings, VaultTransit, calling
from storage.keyring.wrapping import KeyWrapper, Random
from tests.clock import FakeClock
from tests.peers.vault import TOKEN

NORTH = TrustId("RZ1")
SOUTH = TrustId("RZ2")
SHRED_AFTER_S = 24 * 3600


class Place:
    """A folder with a key store and a key file, and keyrings over them."""

    def __init__(self, folder: Path, clock: FakeClock, url: str = "") -> None:
        self.folder = folder
        self.clock = clock
        self.url = url or f"sqlite:///{folder / 'store' / 'keys.db'}"
        self.file = folder / "secret" / "keys.json"

    def keyring(self, wrapper: KeyWrapper | None = None, *, random: Random | None = None, **settings: float) -> Keyring:
        """A keyring, as another process would open it."""
        chosen = KeyringSettings(DatabaseSettings(self.url), **settings)  # type: ignore[arg-type]  # by name
        return Keyring(
            chosen,
            wrapper or KeyFile(self.file),
            node="north",
            clock=self.clock,
            **({} if random is None else {"random": random}),
        )

    def copied(self, to: Path) -> None:
        """All of the store's files as they lie there, with their log, as an attacker or a backup would take them."""
        shutil.copytree(self.folder / "store", to)

    def held_bytes(self) -> bytes:
        """Everything that lies in the folder."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())


def vault_at(url: str, folder: Path, *, key: str = "gateway-keys") -> VaultTransit:
    """The wrapper over Vault, with a token in a file as an agent would leave it."""
    token = folder / "vault-token"
    token.write_text(TOKEN + "\n")
    settings = VaultSettings(url, token, key)
    return VaultTransit(settings, calling(settings, None))
