"""The risk handbook is the code's own table, and it is complete."""

from __future__ import annotations

from deployments.handbook import PAGE, page
from trading.plan import Controls, Limits
from trading.risk.catalogue import SAYS
from trading.risk.handbook import CONTROLS
from trading.risk.watches import BY_CODE


def test_the_handbook_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m deployments.handbook"


def test_the_catalogue_has_twenty_five_controls_each_with_a_place_to_work_at() -> None:
    assert len(CONTROLS) == len({control.name for control in CONTROLS}) == 25
    assert [control.name for control in CONTROLS if not control.codes and not control.elsewhere] == []


def test_every_check_belongs_to_one_control() -> None:
    told = [code for control in CONTROLS for code in control.codes if code not in BY_CODE]
    assert sorted(told) == sorted(SAYS)


def test_every_limit_and_every_control_key_is_told_with_its_defaults() -> None:
    keys = {key for control in CONTROLS for key in control.keys}
    wanted = {f"limits.{name}" for name in Limits.model_fields} | {f"controls.{name}" for name in Controls.model_fields}
    assert wanted - keys == {"limits.max_daily_loss_usd"}, "that one opens the breaker: the runbook has it"
