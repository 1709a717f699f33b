"""The region that the tables speak of: trusts, callers, patients and their registers, behind the real doors.

Every caller has an address of its own on loopback and an AE title, which is what proves it here; store, gate, broker,
QIDO-RS and C-FIND are the real ones, archives answer from memory.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network

import aiohttp
import orjson
from aiohttp import web

from dicomweb.listener import edge
from dicomweb.qido import routes
from gateway.model.settings import Limits
from policy.facts import OrganisationKind
from policy.identity import CallerBinding
from policy.parties import InvalidIdentifier, NhsNumber, PurposeOfUse, TrustId
from policy.trusts import Roll, Stage, Standing, TrustStanding
from storage.registers.agreements import Clause
from tests.attacks.cross_trust.table import ASKERS, RELATIONS, ROLES, Asker, Cell, Door, Question, Relation, Role
from tests.dicomweb.small_region import served
from tests.dimse.door import Client, client, identifier, opened, proposal
from tests.region import Region
from tests.sharing.rows import row

PUBLIC_URL = "https://gateway.example/dicom-web"
HOLDERS = ("RZ2", "RZ3", "RZ9", "RZA", "RZB", "RZC", "RZD")
DAY = timedelta(days=1)
NOT_COMPARED = frozenset({"Date", "Gateway-Correlation"})


@dataclass(frozen=True)
class Answer:
    """What somebody got, over either door."""

    is_refused: bool
    words: str
    """Of a refusal."""
    studies: frozenset[str]
    comparable: object
    """All that the caller could compare with another answer."""


class World:
    """Everybody of the tables, and the doors."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.numbers = dict(zip((relation.name for relation in RELATIONS), _numbers(synthetic=True), strict=False))
        self.numbers["a number of real people"] = next(_numbers(synthetic=False))
        self.others = itertools.islice(_numbers(synthetic=True), len(RELATIONS), None)
        self._stack = AsyncExitStack()
        self._web: dict[str, aiohttp.ClientSession] = {}
        self._dimse: dict[tuple[str, str], Client] = {}
        self._base_url = ""
        self._dimse_port = 0

    def study_uids(self, relation: Relation) -> list[str]:
        """The UIDs of a relation's studies; of one without any, one that nobody has."""
        place = RELATIONS.index(relation)
        return [f"1.2.826.9.{place}.{number}" for number in range(len(relation.studies))] or [f"1.2.826.9.{place}.99"]

    async def ask(self, cell: Cell) -> Answer:
        """Ask through the cell's door."""
        if cell.door is Door.QIDO:
            return await self._by_qido(cell)
        return await self._by_c_find(cell)

    async def _by_qido(self, cell: Cell) -> Answer:
        path = "/trust/RZ2/studies" if cell.question is Question.OWN else "/studies"
        if cell.question is Question.STUDY:
            asked = {"StudyInstanceUID": ",".join(self.study_uids(cell.relation))}
        else:
            asked = {"PatientID": self.numbers[cell.relation.name].digits}
        session = await self._session(cell.asker, cell.role)
        async with session.get(self._base_url + path, params=asked) as response:
            body = await response.read()
            headers = tuple((name, text) for name, text in response.headers.items() if name not in NOT_COMPARED)
        said = orjson.loads(body)
        if response.status != 200:
            assert response.status == 403, (str(cell), response.status, said)
            return Answer(True, str(said["detail"]), frozenset(), None)
        found = frozenset(each["0020000D"]["Value"][0] for each in said)
        assert len(found) == len(said)
        return Answer(False, "", found, (response.status, headers, body))

    async def _by_c_find(self, cell: Cell) -> Answer:
        keys: dict[str, object] = {"PatientID": None, "StudyInstanceUID": None}
        if cell.question is Question.STUDY:
            keys["StudyInstanceUID"] = self.study_uids(cell.relation)
        else:
            keys["PatientID"] = self.numbers[cell.relation.name].digits
        called = "EASTVALE" if cell.question is Question.OWN else "GATEWAY"
        association = await self._association(cell.asker, cell.role, called)
        answer = await association.find(identifier("STUDY", **keys))
        status, comment = answer.end
        if status == 0x0124:
            assert not answer.rows
            return Answer(True, comment, frozenset(), None)
        assert status == 0x0000, (str(cell), status, comment)
        found = frozenset(str(each.StudyInstanceUID) for each in answer.rows)
        assert len(found) == len(answer.rows)
        return Answer(False, "", found, (answer.end, answer.pending, answer.rows))

    async def _session(self, asker: Asker, role: Role) -> aiohttp.ClientSession:
        name = name_of(asker, role)
        if name not in self._web:
            connector = aiohttp.TCPConnector(local_addr=(address_of(asker, role), 0))
            self._web[name] = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        return self._web[name]

    async def _association(self, asker: Asker, role: Role, called: str) -> Client:
        title = title_of(asker, role)
        if (title, called) not in self._dimse:
            entering = client(self._dimse_port, proposal(calling=title, called=called))
            self._dimse[title, called] = await self._stack.enter_async_context(entering)
        return self._dimse[title, called]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        """Fill the registers, and open both doors."""
        limits = Limits(connections_per_address_max=256, dimse_connections_per_address_max=512)
        self._describe()
        await self.region.prepare()
        for relation in RELATIONS:
            self._file(relation)
            await ARRANGED.get(relation.name, _referred)(self, relation, self.numbers[relation.name])
        numbers = itertools.count(1)
        app = web.Application(middlewares=[edge(limits, new_id=lambda: f"web-{next(numbers)}")])
        app.add_routes(routes(self.region.broker, self.region.gate, limits, public_url=PUBLIC_URL))
        dimse = opened(self.region.broker, self.region.gate, limits=limits, aliases={"EASTVALE": TrustId("RZ2")})
        async with served(app, limits) as origin, dimse as house, self._stack:
            self._base_url, self._dimse_port = f"{origin}/dicom-web", house.port
            yield self

    def _describe(self) -> None:
        for code in HOLDERS:
            self.region.trust(code)
        self.region.trust("RZ9").sharing(Clause(modalities=frozenset({"CT"})))
        self.region.trust("RZA").sharing()
        self.region.trust("RZB").sharing(Clause(age_max_years=17))
        self.region.trust("RZC").sharing(Clause(recipients=frozenset({TrustId("RZE")})))
        emergencies = frozenset({PurposeOfUse.ETREAT, PurposeOfUse.ERTREAT})
        self.region.trust("RZD").sharing(Clause(purposes=emergencies))
        for asker in ASKERS:
            if asker.code not in HOLDERS:
                self.region.trust(asker.code).without_archive()
        self.region.trust("A81001").of_kind(OrganisationKind.GENERAL_PRACTICE)
        self.region.roll = Roll(
            {
                TrustId("RZ5"): TrustStanding(TrustId("RZ5"), Standing.SUSPENDED),
                TrustId("RZ6"): TrustStanding(TrustId("RZ6"), Standing.RETIRED),
                TrustId("RZ7"): TrustStanding(TrustId("RZ7"), Standing.RETIRED, successor=TrustId("RZ1")),
                TrustId("RZ8"): TrustStanding(TrustId("RZ8"), Standing.ENROLLED, Stage.TEST),
            },
            test_patients={TrustId("RZ8"): frozenset({self.numbers["a test patient of the trust on trial"]})},
        )
        self.region.callers.extend(bindings())

    def _file(self, relation: Relation) -> None:
        """Put the relation's studies into the archives that hold them."""
        number = self.numbers[relation.name]
        for uid, study in zip(self.study_uids(relation), relation.studies, strict=False):
            self.region.trust(study.holder).with_study(uid, of=number, modalities=study.modality)


def name_of(asker: Asker, role: Role) -> str:
    """The name of a caller's `[[caller]]`."""
    return f"{asker.name}, {role.name}"


def address_of(asker: Asker, role: Role) -> str:
    """Where a caller asks from over HTTP."""
    return f"127.0.{1 + ASKERS.index(asker)}.{1 + ROLES.index(role)}"


def title_of(asker: Asker, role: Role) -> str:
    """A caller's AE title."""
    return f"{asker.code}_{ROLES.index(role)}"


def bindings() -> list[CallerBinding]:
    """Every caller of the tables."""
    return [
        CallerBinding(
            name_of(asker, role),
            TrustId(asker.code),
            role.kind,
            addresses=(ip_network(f"{address_of(asker, role)}/32"), ip_network("127.0.0.1/32")),
            ae_titles=(title_of(asker, role),),
            teams=frozenset({role.team} - {""}),
            purposes=(role.purpose,),
            loopback_only=True,
        )
        for asker in ASKERS
        for role in ROLES
    ]


def _numbers(*, synthetic: bool) -> Iterator[NhsNumber]:
    """Valid NHS numbers, of the range for tests or of that for people."""
    start = 9_990_001_000 if synthetic else 4_000_000_000

    def valid(candidate: int) -> list[NhsNumber]:
        try:
            return [NhsNumber.parse(str(candidate))]
        except InvalidIdentifier:
            return []

    return itertools.chain.from_iterable(map(valid, itertools.count(start)))


Arrange = Callable[[World, Relation, NhsNumber], Awaitable[None]]


async def _referred(world: World, relation: Relation, number: NhsNumber) -> None:
    for team in sorted(relation.teams):
        await world.region.refer(number, to=relation.at, team=team)


async def _stranger(world: World, relation: Relation, number: NhsNumber) -> None:
    """In no register."""


async def _known(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.number(number, status="01")


async def _ended(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.refer(number, to="RZ1", until=world.region.clock.now())


async def _ends_soon(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.refer(number, to="RZ1", until=world.region.clock.now() + timedelta(seconds=1))


async def _begins(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.refer(number, to="RZ1", since=world.region.clock.now() + DAY)


async def _a_year_old(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.refer(number, to="RZ1", since=world.region.clock.now() - 365 * DAY)


async def _withdrawn(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.end(await world.region.refer(number, to="RZ1"))


async def _opted_out(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.opt_out(number)


async def _verified(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.opt_out(number, only_verified=True)


async def _received(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.opt_out(number, only_received=True)


async def _opted_in_again(world: World, relation: Relation, number: NhsNumber) -> None:
    await _opted_out(world, relation, number)
    await world.region.opt_in(number)
    if relation.is_restricted:
        await world.region.opt_out(number)


async def _granted(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    people = [name_of(asker, role) for asker in ASKERS for role in ROLES if _is_neurologist(asker, role)]
    for subject in people if relation.granted_to == "neurologist" else [""]:
        await world.region.grant(number, to="RZ1", subject=subject)
    if relation.is_restricted:
        await world.region.opt_out(number)


def _is_neurologist(asker: Asker, role: Role) -> bool:
    return asker.recipient == "RZ1" and role.name.startswith("neurologist")


async def _granted_once(world: World, relation: Relation, number: NhsNumber) -> None:
    await world.region.grant(number, to="RZ1", since=world.region.clock.now() - DAY, hours=24)


async def _labelled_study(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.label(number, "RZ2", world.study_uids(relation)[0])


async def _labelled(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.label(number, "RZ2")


async def _labelled_for_emergencies(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.label(number, "RZ2", visible_to=(PurposeOfUse.ETREAT, PurposeOfUse.ERTREAT))


async def _labelled_for_a_team(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    await world.region.label(number, "RZ2", teams=("RZ1:neurology",))


async def _superseded(world: World, relation: Relation, number: NhsNumber) -> None:
    surviving = next(world.others)
    await world.region.supersede(number, by=surviving)
    await _referred(world, relation, surviving)
    if relation.is_restricted:
        await world.region.opt_out(surviving)


async def _half_merged(world: World, relation: Relation, number: NhsNumber) -> None:
    """Care is of one number, a choice of both, until a second person has confirmed (SAF-33)."""
    other = next(world.others)
    await world.region.claim_one(number, survivor=other)
    if relation.is_restricted:
        await world.region.refer(number, to="RZ1")
        await world.region.opt_out(other)
    else:
        await world.region.refer(other, to="RZ1")


async def _differs(world: World, relation: Relation, number: NhsNumber) -> None:
    await _referred(world, relation, number)
    changed = row(world.study_uids(relation)[0], number, name="MARSH^LEONARD", born="19380430", modalities="CT")
    archive = world.region.trust("RZ2").pacs
    archive.rows = [changed if each["0020000D"] == changed["0020000D"] else each for each in archive.rows]


ARRANGED: Mapping[str, Arrange] = {
    "a stranger to all registers": _stranger,
    "known, in nobody's care": _known,
    "care ended": _ended,
    "care ends in a moment": _ends_soon,
    "care begins tomorrow": _begins,
    "open-ended care of a year ago": _a_year_old,
    "care withdrawn by mistake's undoing": _withdrawn,
    "opted out": _opted_out,
    "opted out, in nobody's care": _opted_out,
    "opted out, without any study": _opted_out,
    "opting out, verified": _verified,
    "opting out, received": _received,
    "opted out and in again": _opted_in_again,
    "opted out, in, and out again": _opted_in_again,
    "emergency access of the trust": _granted,
    "emergency access of a person": _granted,
    "emergency access beside care": _granted,
    "emergency access over an opt-out": _granted,
    "emergency access that is over": _granted_once,
    "one study labelled": _labelled_study,
    "labelled at one holder": _labelled,
    "labelled for emergencies": _labelled_for_emergencies,
    "labelled for a team": _labelled_for_a_team,
    "superseded number, care under the surviving one": _superseded,
    "superseded number, opted out under the surviving one": _superseded,
    "merge awaits a second person": _half_merged,
    "merge awaits a second person, the other opted out": _half_merged,
    "identity differs between holders": _differs,
}
"""How the relations that a plain referral does not make come about."""
