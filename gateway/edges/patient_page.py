"""The patient's page of this node, put together from its configuration. What it answers is `gateway.web.patient`'s."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import timedelta

from joserfc.errors import JoseError
from yarl import URL

from gateway.config.release.page import PatientPageSection
from gateway.config.sections import GatewaySection
from gateway.model.errors import ConfigurationError
from gateway.model.reporting.reading import PatientReading
from gateway.model.reporting.sessions import SessionBook, SessionTerms
from gateway.model.seams import Clock
from gateway.node import new_id
from gateway.web.patient.keys import KeyTerms
from gateway.web.patient.oidc import Provider, ProviderTerms, SignIns
from gateway.web.patient.pages import Behind
from gateway.web.patient.pages import routes as routes
from gateway.web.patient.refusals import AuditBook, Refusals
from gateway.web.patient.sessions import Sessions
from gateway.web.patient.views import Views, Words
from policy.settings import Mode

RETURN_PATH = "/sign-in/return"
"""Below `public_base_url`: what the provider has to know as our redirect address."""


@dataclass(frozen=True, slots=True)
class PatientReports:
    """What the page shows, where it writes down what it refused, and where it keeps who signed in."""

    reading: PatientReading
    book: AuditBook
    sessions: SessionBook


def opened(section: PatientPageSection, gateway: GatewaySection, reports: PatientReports, clock: Clock) -> Behind:
    """What stands behind the page; its provider is to be closed. Raises `ConfigurationError`."""
    sign_in_life_s = int(section.sign_in_minutes * 60)
    try:
        provider = Provider(_terms(section, gateway.mode), clock)
    except (JoseError, ValueError) as error:
        raise ConfigurationError([f"patient_page.client_key: {section.client_key}: is no RSA key (PEM)"]) from error
    idle, whole = (timedelta(minutes=each) for each in (section.session_idle_minutes, section.session_minutes))
    return Behind(
        provider=provider,
        sign_ins=SignIns(sign_in_life_s),
        sessions=Sessions(reports.sessions, SessionTerms(idle, whole, section.sessions_max)),
        reading=reports.reading,
        refusals=Refusals(reports.book, clock),
        views=Views(
            Words(gateway.region, section.provider_name, section.help_words, int(section.session_idle_minutes))
        ),
        clock=clock,
        new_id=new_id,
        # As browsers name an origin: in lower case, without the port that goes without saying.
        public_url=str(URL(section.public_base_url).origin()),
        sign_in_life_s=sign_in_life_s,
    )


def _terms(section: PatientPageSection, mode: Mode) -> ProviderTerms:
    return ProviderTerms(
        issuer=section.issuer,
        client_id=section.client_id,
        return_url=section.public_base_url + RETURN_PATH,
        client_key_pem=section.client_key.read_bytes(),
        client_key_id=section.client_key_id,
        client_algorithm=section.client_algorithm,
        scope=section.scope,
        trust_vector=json.dumps(section.trust_vector, separators=(",", ":")) if section.trust_vector else "",
        algorithms=tuple(section.algorithms),
        token_age_max_s=section.token_age_max_s,
        leeway_s=section.leeway_s,
        timeout_s=section.timeout_s,
        bearer_audience=section.bearer_audience,
        bearer_age_max_s=section.bearer_age_max_s,
        keys=KeyTerms(
            fresh_s=section.keys_fresh_minutes * 60,
            stale_max_s=section.keys_stale_max_hours * 3_600,
            refetch_min_s=section.keys_refetch_min_s,
        ),
        tls=_trusting(section),
        is_demo=mode is Mode.DEMO,
    )


def _trusting(section: PatientPageSection) -> ssl.SSLContext | None:
    if section.ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=section.ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"patient_page.ca: {section.ca}: cannot be read as certificates"]) from error
