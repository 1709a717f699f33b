"""What the demo region's gateway.toml says of reports: the door for HL7, a feed, the patient's page, the terms. Pure.

Reports go at any hour here, so that the story can be told on a Sunday; everything else is as a region begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.demo.cast import EASTVALE
from gateway.demo.reports.national import CLIENT_ID, REGISTER_PATH

REPORTING_TRUST: Final = EASTVALE
REPORTING_SYSTEM: Final = "rz2-ris"
CHANNEL: Final = "patient-page"


def report_lines(keys: Path, *, hl7_port: int, people_port: int, national_url: str, fingerprint: str) -> Sequence[str]:
    """The sections that stand for themselves; `fingerprint` of the reporting system's certificate."""
    return [
        *("[listen.hl7]", f"port = {hl7_port}"),
        *(f'certificate = "{keys}/gateway.pem"', f'private_key = "{keys}/gateway.key"'),
        f'client_ca = "{keys}/authority.pem"',
        *("[[report_feed]]", f'name = "{REPORTING_SYSTEM}"', f'trust = "{REPORTING_TRUST.ods_code}"'),
        f'certificate_sha256 = "{fingerprint}"',
        *("[patient_page]", f'public_base_url = "https://localhost:{people_port}"', f'issuer = "{national_url}"'),
        *(f'client_id = "{CLIENT_ID}"', 'client_key = "keys/patient-page.pem"'),
        *("[[lookup]]", 'kind = "pds"', f'url = "{national_url}{REGISTER_PATH}"', "plain_http_on_loopback = true"),
    ]


def terms_lines() -> Sequence[str]:
    """How the reporting trust releases: what stands in its `[[trust]]`."""
    return [
        "[trust.release]",
        'go_live_at = "2020-01-01T08:00:00Z"',
        *("working_days_only = false", f'channels = ["{CHANNEL}"]'),
        *("[trust.release.contacts]", 'patient_phone = "0300 555 0199"', 'results_lead = "results@eastvale.example"'),
        'service_mailbox = "reports@eastvale.example"',
        'caldicott_guardian = "guardian@eastvale.example"',
        'privacy_officer = "privacy@eastvale.example"',
        'governance = ["governance@eastvale.example"]',
    ]
