"""The audit's guards of one node: the signing key, the second place, and what a rolled-back database is told.

Made at the first start and never quietly again: a key made anew beside an old anchor file would make every checkpoint
of before look forged.
"""

from __future__ import annotations

from gateway.config.configuration import Configuration
from gateway.model.errors import ConfigurationError, GatewayError
from storage.anchors import AnchorFile
from storage.checkpoints import Checkpointer, RollBack, check_rollback
from storage.keys import SigningKey, VerifyingKey, create_signing_key, load_signing_key, load_verifying_key
from storage.store import SqlStore


def anchor_file(configuration: Configuration) -> AnchorFile:
    """The second place of the checkpoints."""
    return AnchorFile(configuration.audit.anchor_path)


def signing_key(configuration: Configuration) -> SigningKey:
    """The key that signs checkpoints and backups; made at the very first start. Raises `ConfigurationError`."""
    path, anchors = configuration.audit.signing_key, configuration.audit.anchor_path
    if path.exists():
        return load_signing_key(path)
    if anchors.exists():
        raise ConfigurationError(
            [
                f"audit.signing_key: {path} is missing, but {anchors} has checkpoints that it signed:"
                " bring the key back from its safe place"
            ]
        )
    return create_signing_key(path)


def verifying_key(configuration: Configuration) -> VerifyingKey:
    """The public half, for those who only verify; raises `ConfigurationError`."""
    return load_verifying_key(configuration.audit.signing_key)


def checkpointer(configuration: Configuration, store: SqlStore, key: SigningKey) -> Checkpointer:
    """What bears witness while the gateway serves."""
    audit = configuration.audit
    return Checkpointer(
        store.database,
        anchor_file(configuration),
        key,
        every_records=audit.checkpoint_every_records,
        every_s=audit.checkpoint_every_s,
    )


async def refuse_roll_back(configuration: Configuration, store: SqlStore, key: SigningKey) -> None:
    """Raise `GatewayError` in words an operator can act on, if the database holds less than was witnessed."""
    found = await check_rollback(store.database, anchor_file(configuration), key.verifying)
    if found is not None:
        raise GatewayError("\n".join(describe(found)))


def describe(found: RollBack) -> list[str]:
    """What was lost, and what to do."""
    lines = ["the database is not the one that the audit's second place bears witness to"]
    lines += [f"  chain {broken.node}: {broken.problem} (record {broken.sequence})" for broken in found.breaks]
    lines += [f"  second place: {problem}" for problem in found.problems]
    if found.last_witness_at is not None:
        lines.append(f"  last witness: {found.last_witness_at.isoformat(timespec='seconds')}")
    if found.register_versions_lost:
        lines.append(f"  register writes lost, at least: {found.register_versions_lost}")
    if found.opt_out_events_lost:
        lines.append(f"  events of opt-out cases lost, at least: {found.opt_out_events_lost}; enter them again first")
    return [
        *lines,
        "if a backup was restored on purpose: gateway audit accept-restore --reason WHY",
        "if not: change nothing, keep all files, and find out who did",
    ]
