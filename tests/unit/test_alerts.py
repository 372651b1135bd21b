"""Alerts: who is told what, once, and no more often than allowed; no secret leaves; a failure is kept and tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.alerts import MESSAGES_PER_HOUR, Alerts, Destination, clean, destinations, failures, read_state, text_of
from config.settings import Settings
from trading.errors import ConfigurationError
from trading.incidents import Incident, Severity, of_breaker
from trading.plan import BreakerRules
from trading.risk.breaker import Level, closed, open_breaker

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOOK = "json://user:hunter22@127.0.0.1:8080/path"
WORST = Incident(key="breaker:a", severity=Severity.CRITICAL, title="it stopped", evidence="x", still_works="exits", do="look")
MILD = replace(WORST, key="b", severity=Severity.INFO, title="a deposit")


class Post:
    """Takes every message, or says why not."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str]] = []
        self.refuses = ""

    def __call__(self, place: Destination, title: str, text: str) -> str:
        if not self.refuses:
            self.taken.append((place.name, title, text))
        return self.refuses


def settings(home: Path, alerts: str = HOOK, hosts: str = "127.0.0.1") -> Settings:
    return Settings(home=home, alerts=alerts, alert_hosts=hosts)


@pytest.mark.parametrize(
    ("url", "hosts", "complaint"),
    [
        ("jsons://evil.example/x", "good.example", "evil.example"),
        ("mailto://a:b@good.example?smtp=evil.example", "good.example", "evil.example"),
        ("critical=json://evil.example", "", "evil.example"),
        ("ftp://good.example", "good.example", "'ftp'"),
        ("nonsense", "nonsense", "expected"),
        ("syslog://", "", "'syslog'"),
    ],
)
def test_a_destination_that_is_not_allowed_is_refused_without_its_secrets(
    tmp_path: Path, url: str, hosts: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        destinations(settings(tmp_path, f"{url} {HOOK.replace('127.0.0.1', '127.0.0.2')}", hosts))
    assert "hunter22" not in str(caught.value)


def test_floors_and_services_whose_host_is_known(tmp_path: Path) -> None:
    found = destinations(settings(tmp_path, f"critical=tgram://123:abc/1 info={HOOK} slack://a/b/c"))
    assert [(place.name, place.floor) for place in found] == [
        ("tgram://api.telegram.org", Severity.CRITICAL),
        ("json://127.0.0.1", Severity.INFO),
        ("slack://hooks.slack.com", Severity.WARNING),
    ]
    assert "hunter22" not in repr(found)
    assert "hunter22" not in repr(settings(tmp_path))


def test_an_incident_is_told_once_and_anew_only_after_it_was_over(tmp_path: Path) -> None:
    post = Post()
    for found in ([WORST], [WORST], [], [WORST]):
        Alerts(settings(tmp_path), post).tell(found, NOON)
    assert [title for _, title, _ in post.taken] == ["Tradekeel critical: it stopped"] * 2


def test_one_part_of_the_incidents_ends_no_other(tmp_path: Path) -> None:
    post = Post()
    alerts = Alerts(settings(tmp_path), post)
    alerts.tell([WORST], NOON)
    alerts.tell([], NOON, lasting=())
    alerts.tell([WORST], NOON)
    assert len(post.taken) == 1


def test_ninety_seven_breaks_are_one_message(tmp_path: Path) -> None:
    post = Post()
    Alerts(settings(tmp_path), post).tell([replace(WORST, key=f"break:{number}") for number in range(97)], NOON)
    [(_, title, text)] = post.taken
    assert "and 96 more" in title
    assert "77 more" in text


def test_a_flood_is_held_back_and_told_together_when_the_hour_is_over(tmp_path: Path) -> None:
    post = Post()
    alerts = Alerts(settings(tmp_path), post)
    for number in range(MESSAGES_PER_HOUR + 5):
        alerts.tell([replace(WORST, key=f"break:{number}")], NOON + timedelta(seconds=number), lasting=())
    assert len(post.taken) == MESSAGES_PER_HOUR
    alerts.tell([replace(WORST, key=f"break:{number}") for number in range(MESSAGES_PER_HOUR + 5)], NOON + timedelta(hours=2))
    assert "and 4 more" in post.taken[-1][1]


def test_each_destination_hears_from_its_floor_on(tmp_path: Path) -> None:
    post = Post()
    Alerts(settings(tmp_path, f"critical={HOOK} info={HOOK}/2"), post).tell([WORST, MILD], NOON)
    assert [("a deposit" in text, "it stopped" in text) for _, _, text in post.taken] == [(False, True), (True, True)]


def test_a_failed_delivery_is_kept_tried_again_and_forgotten_once_it_worked(tmp_path: Path) -> None:
    post = Post()
    post.refuses = "connection refused"
    alerts = Alerts(settings(tmp_path), post)
    [failure] = alerts.tell([WORST], NOON)
    assert (failure.destination, failure.why, failure.since) == ("json://127.0.0.1", "connection refused", "2026-11-24T12:00:00Z")
    assert failures(settings(tmp_path)) == [failure]
    [again] = alerts.tell([WORST], NOON + timedelta(minutes=1))
    assert again.since == failure.since
    post.refuses = ""
    assert alerts.tell([WORST], NOON + timedelta(minutes=2)) == []
    assert len(post.taken) == 1
    assert failures(settings(tmp_path)) == []


def test_a_damaged_state_tells_once_more_rather_than_never(tmp_path: Path) -> None:
    post = Post()
    (tmp_path / "alerts.json").write_text("{")
    Alerts(settings(tmp_path), post).tell([WORST], NOON)
    assert len(post.taken) == 1
    assert read_state(tmp_path / "alerts.json")["told"].keys() == {"breaker:a"}
    assert (tmp_path / "alerts.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMHcCAQEEIB",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJrZXkifQ.c2lnbmF0dXJl",
        "organizations/1-2/apiKeys/3-4",
        "postgresql://keel:hunter22@db/keel",
        "password=hunter22",
        "API_KEY: hunter22",
    ],
)
def test_no_secret_leaves_in_an_alert(secret: str) -> None:
    found = text_of([replace(WORST, evidence=f"before {secret} after")])
    assert "<hidden>" in found
    for part in ("MHcC", "eyJz", "apiKeys/3", "hunter22"):
        assert part not in found
    assert clean("buy 0.1 BTC-USD at 60000 3f2504e0-4f89-41d3-9a0c-0305e82c3301") == (
        "buy 0.1 BTC-USD at 60000 3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    )


@pytest.mark.parametrize(("level", "severity"), [("reduce_only", "warning"), ("no_new", "critical"), ("cancel", "critical")])
def test_an_open_breaker_tells_evidence_owner_runbook_and_what_still_works(level: str, severity: str) -> None:
    row = open_breaker(closed("global", NOON), BreakerRules(), NOON, level=Level(level), reason="doubts: observed 2, limit 2",
                       actor="breaker")  # fmt: skip
    told = of_breaker(row).to_text()
    for part in (severity, "global", "observed 2", "Still works:", "Owner: operator", "keel reconcile", "docs/runbook.md"):
        assert part in told
