"""A simulated venue's home, its clock, its prices, its keys and its page."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.builders.simulator import NOON, PROJECT
from trading.errors import ConfigurationError
from trading.simulator.faults import KINDS, Faults
from trading.simulator.keys import load_keys, make_certificates, make_keys
from trading.simulator.orders import Settings
from trading.simulator.rest import ENDPOINTS
from trading.simulator.simulation import Clock, Opening, Simulation, parse_balances
from trading.simulator.tape import Recorded, Synthetic
from trading.simulator.venue import MAIN_PORTFOLIO

STILL = Opening(prices="still", seed=3, start=NOON)


def open_(home: Path, opening: Opening = STILL) -> Simulation:
    return Simulation(home, opening, lambda: NOON)


def test_a_home_is_open_in_one_process_at_a_time(tmp_path: Path) -> None:
    first = open_(tmp_path)
    with pytest.raises(ConfigurationError, match="another simulator has this home open"):
        open_(tmp_path)
    first.log.close()
    open_(tmp_path).log.close()


@pytest.mark.parametrize("other", [Opening(prices="still", seed=4), Opening(prices="synthetic", seed=3)])
def test_a_home_keeps_its_prices_and_seed(tmp_path: Path, other: Opening) -> None:
    open_(tmp_path).log.close()
    with pytest.raises(ConfigurationError, match="this home was opened with"):
        open_(tmp_path, other)


def test_a_home_keeps_its_balances_clock_and_prices_over_a_restart(tmp_path: Path) -> None:
    sim = open_(tmp_path)
    sim.do("deposit", {"currency": "USD", "amount": "7"})
    sim.do("clock", {"advance": 3600})
    sim.do("price", {"product_id": "BTC-USD", "price": "55555"})
    with pytest.raises(ConfigurationError):
        sim.do("price", {"product_id": "NOPE-USD", "price": "1"})
    before = sim.venue.balances(MAIN_PORTFOLIO)
    sim.log.close()
    again = open_(tmp_path)
    assert again.now() == NOON + timedelta(hours=1)
    assert again.venue.balances(MAIN_PORTFOLIO) == before
    assert again.venue.floor.last["BTC-USD"] == Decimal(55555)
    again.log.close()


def test_a_venue_on_the_wall_clock_that_is_opened_days_later_has_lived_at_the_old_times(tmp_path: Path) -> None:
    wall = [NOON]

    def opened() -> Simulation:
        return Simulation(tmp_path, Opening(prices="still"), lambda: wall[0])

    sim = opened()
    sim.do("clock", {"advance": 60})
    terms = {"limit_limit_gtd": {"base_size": "0.1", "limit_price": "50000", "end_time": "2026-11-24T12:30:00Z"}}
    body = {"client_order_id": "a", "product_id": "BTC-USD", "side": "BUY", "order_configuration": terms}
    sim.do("create", {"body": body, "portfolio": MAIN_PORTFOLIO})
    sim.do("clock", {"at": "2026-11-24T12:10:00Z"})
    sim.do("clock", {"run": True})
    sim.log.close()
    wall[0] += timedelta(days=3)
    again = opened()
    (order,) = again.venue.orders.values()
    assert (order.status, order.created) == ("OPEN", NOON + timedelta(minutes=1))
    assert again.now() == NOON + timedelta(days=3, minutes=10)
    assert order.status == "EXPIRED"
    again.log.close()


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("deposit", {"amount": "1"}), ("deposit", {"currency": "USD", "amount": "-1000000"}), ("price", {}),
        ("deposit", {"currency": "USD", "amount": "1", "portfolio": "nobody"}), ("clock", {"at": 5}), ("nonsense", {}),
        ("price", {"product_id": "BTC-USD", "price": "0"}), ("settings", {"maker_fee": "much"}),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_neither_acts_nor_spoils_the_home(
    tmp_path: Path, command: str, payload: dict[str, object]
) -> None:
    sim = open_(tmp_path)
    before = sim.venue.balances(MAIN_PORTFOLIO)
    with pytest.raises(ConfigurationError):
        sim.do(command, payload)
    sim.log.close()
    again = open_(tmp_path)
    assert again.venue.balances(MAIN_PORTFOLIO) == before
    again.log.close()


def test_time_does_not_go_back() -> None:
    wall = [NOON]
    clock = Clock(lambda: wall[0])
    assert clock.now() == NOON
    wall[0] -= timedelta(minutes=1)
    assert clock.now() == NOON
    with pytest.raises(ConfigurationError, match="time does not go back"):
        clock.set({"at": "2026-11-24T11:00:00Z"}, NOON)
    with pytest.raises(ConfigurationError, match="time does not go back"):
        clock.set({"advance": -1}, NOON)


def test_a_clock_that_stood_runs_on_from_where_it_stood() -> None:
    wall = [NOON]
    clock = Clock(lambda: wall[0], stands_at=NOON - timedelta(days=100))
    clock.set({"run": True, "wall": NOON.isoformat()}, clock.now())
    wall[0] += timedelta(seconds=5)
    assert clock.now() == NOON - timedelta(days=100) + timedelta(seconds=5)
    assert clock.signing() == wall[0], "signatures go by the wall clock"


def test_a_synthetic_price_depends_on_seed_and_time_alone() -> None:
    at = int(NOON.timestamp())
    one, other = Synthetic(1), Synthetic(1)
    later = one.last("BTC-USD", at + 86400)
    assert [one.last("BTC-USD", at), later] == [other.last("BTC-USD", at), other.last("BTC-USD", at + 86400)]
    assert Synthetic(2).last("BTC-USD", at) != one.last("BTC-USD", at)
    assert one.last("BTC-USD", at) != later


def test_synthetic_candles_span_the_points_that_were_traded() -> None:
    tape, start = Synthetic(1), int(NOON.timestamp())
    (bar,) = tape.bars("ETH-USD", start, start + 1, 900)
    prices = [point.price for point in tape.points(start - 1, start + 899) if point.product == "ETH-USD"]
    assert (bar.open, bar.high, bar.low, bar.close) == (prices[0], max(prices), min(prices), prices[-1])


def test_a_recorded_candle_is_four_points_and_a_gap_is_a_gap(tmp_path: Path) -> None:
    file = tmp_path / "venue" / "BTC-USD" / "1h.parquet"
    file.parent.mkdir(parents=True)
    rows = {"start": [7200, 0], "open": [110.0, 100.0], "high": [120.0, 105.0], "low": [90.0, 90.0], "close": [115.0, 101.0]}
    pd.DataFrame(rows | {"volume": [1.0, 2.0]}).to_parquet(file)
    tape = Recorded(tmp_path, shift=86400)
    points = [(point.at - 86400, int(point.price)) for point in tape.points(0, 86400 + 10800)]
    assert points == [
        (0, 100), (900, 105), (1800, 90), (2700, 101),
        (7200, 110), (8100, 120), (9000, 90), (9900, 115),
    ]  # fmt: skip
    assert [bar.start - 86400 for bar in tape.bars("BTC-USD", 86400, 86400 + 10800, 3600)] == [0, 7200]
    last = tape.last("BTC-USD", 86400 + 4000)
    assert last is not None
    assert last.price == 101, "the price stands in the gap"


def test_a_folder_without_candles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no <venue>"):
        Recorded(tmp_path, 0)


def test_keys_are_made_once_readable_by_their_owner_alone(tmp_path: Path) -> None:
    files = make_keys(tmp_path)
    before = {name: file.read_text() for name, file in files.items()}
    assert {name: file.read_text() for name, file in make_keys(tmp_path).items()} == before
    assert all(file.stat().st_mode & 0o077 == 0 for file in [*files.values(), tmp_path / "keys.json"])
    assert len(load_keys(tmp_path / "keys.json")) == len(files)


def test_a_key_file_that_is_none_says_what_was_expected(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([{"name": "a"}]))
    with pytest.raises(ConfigurationError, match="expected a list of name and privateKey or publicKey"):
        load_keys(file)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"kind": "nonsense"}, "expected one of"),
        ({"kind": "drop", "endpoint": "nowhere"}, "endpoint: found 'nowhere'"),
        ({"kind": "drop", "count": 0}, "count: found 0"),
    ],
)
def test_a_fault_that_is_none_is_refused(asked: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        Faults().add(asked, ENDPOINTS)


def test_faults_strike_one_by_one_where_and_when_they_were_asked_for() -> None:
    faults = Faults()
    faults.add({"kind": "drop", "endpoint": "create_order", "skip": 1}, ENDPOINTS)
    faults.add({"kind": "html_502", "endpoint": "*"}, ENDPOINTS)
    faults.add({"kind": "delay", "endpoint": "create_order", "count": 2}, ENDPOINTS)
    struck = [
        [fault.kind for fault in faults.take(name)] for name in ("get_fills", "create_order", "create_order", "create_order")
    ]
    assert struck == [["html_502"], ["delay"], ["drop", "delay"], []]


def test_balances_are_read_from_text() -> None:
    assert parse_balances("USD=10.5, BTC=1") == {"USD": Decimal("10.5"), "BTC": Decimal(1)}
    with pytest.raises(ConfigurationError, match="balance of USD"):
        parse_balances("USD=much")


def test_the_page_names_every_fault_and_setting() -> None:
    page = (PROJECT / "docs" / "simulator.md").read_text()
    names = [*KINDS, *(field.name for field in fields(Settings))]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_certificates_are_kept_and_those_that_no_later_python_trusts_are_made_anew(tmp_path: Path) -> None:
    authority, _ = make_certificates(tmp_path, "127.0.0.1", NOON)
    made = authority.read_bytes()
    assert make_certificates(tmp_path, "127.0.0.1", NOON)[0].read_bytes() == made
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an early one")])
    early = x509.CertificateBuilder(name, name, key.public_key(), 1, NOON, NOON + timedelta(days=1)).sign(key, hashes.SHA256())
    authority.write_bytes(early.public_bytes(serialization.Encoding.PEM))
    make_certificates(tmp_path, "127.0.0.1", NOON)
    anew = x509.load_pem_x509_certificate(authority.read_bytes())
    assert anew.subject != name
    assert anew.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
