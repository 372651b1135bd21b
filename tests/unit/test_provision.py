"""What `prefect.yaml` may say, what of it is refused, and which crons fit which plans: all before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config.settings import PROJECT, Settings
from deployments.stack.declared import checked, fingerprint, read_declared
from deployments.stack.hooks import pipeline_hooks
from deployments.stack.premises import is_free
from deployments.stack.schedules import cron_fits
from trading.errors import ConfigurationError

HOUR, DAY = 3600, 86400
ENVIRONMENT = {"KEEL_PROJECT": str(PROJECT)}
DEPLOYMENT = """
  - name: paper
    entrypoint: flows/trade.py:trade
    parameters: {params: {plan: default}}
    work_pool: {name: local, job_variables: {working_dir: "{{ $KEEL_PROJECT }}"}}
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW, grace_period_seconds: 60}
    schedules: [{slug: hourly, cron: "0 * * * *"}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prefect.yaml"


def problems_of(file: Path, deployments: str) -> list[str]:
    """What is wrong with a file of these deployments, without the file's name."""
    file.write_text(f"deployments: {deployments}")
    with pytest.raises(ConfigurationError) as caught:
        read_declared(file, ENVIRONMENT)
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------------------------- crons


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("2-59/5 * * * *", 300),
        ("7,22,37,52 * * * *", 900),
        ("0 * * * *", HOUR),
        ("15 * * * *", HOUR),
        ("0 */6 * * *", 6 * HOUR),
        ("1 0,12 * * *", 12 * HOUR),
        ("0 0 * * *", DAY),
        ("20 3 * * 0-6", DAY),
        ("0 9 * * 1", 7 * DAY),
    ],
)
def test_a_cron_fits_when_it_fires_once_in_each_interval(cron: str, seconds: int) -> None:
    assert cron_fits(cron, seconds)


@pytest.mark.parametrize(
    ("cron", "seconds", "why"),
    [
        ("0 * * * *", DAY, "too often"),
        ("0 0 * * *", HOUR, "too seldom"),
        ("*/7 * * * *", 420, "the last of the hour is only four minutes before the next hour"),
        ("0 */5 * * *", 5 * HOUR, "the last of the day is only four hours before midnight"),
        ("0 9-17 * * *", HOUR, "not at night"),
        ("0 * * * 1-5", HOUR, "not at the weekend"),
        ("0 0 * * 1-5", DAY, "not at the weekend"),
        ("0 0 30 2 *", DAY, "a day that never comes"),
        ("0 0 1 1 *", DAY, "once a year"),
    ],
)
def test_a_cron_does_not_fit_when_one_firing_of_the_week_is_off(cron: str, seconds: int, why: str) -> None:
    assert not cron_fits(cron, seconds), why


@pytest.mark.parametrize("cron", ["", "hourly", "0 * * *", "0 * * * * *", "61 * * * *", "@hourly"])
def test_what_is_no_cron_line_is_said(cron: str) -> None:
    with pytest.raises(ConfigurationError, match="expected five fields"):
        cron_fits(cron, HOUR)


# ---------------------------------------------------------------------------------------------------------- the plans


@pytest.mark.parametrize(
    ("plan", "cron", "market", "expected"),
    [
        ("default", "0 * * * *", None, None),
        ("default", "30 * * * *", "synthetic", None),
        ("default", "0 0 * * *", None, "fires once every 1h, the interval of plan default"),
        ("default", "* * * * *", None, "fires once every 1h"),
        ("default", "* * * * *", "replay:/recorded", None),  # a replay goes one slot further per run
        ("rebalance", "0 0 * * *", None, None),
        ("rebalance", "0 * * * *", None, "fires once every 1d"),
        ("missing", "0 * * * *", None, "missing"),
    ],
)
def test_a_schedule_must_fit_the_interval_of_its_plan(plan: str, cron: str, market: str | None, expected: str | None) -> None:
    check = pipeline_hooks(Settings(market=market)).check_schedule
    if expected is None:
        check("trade/paper", cron, {"params": {"plan": plan}})
        return
    with pytest.raises(ConfigurationError, match=expected):
        check("trade/paper", cron, {"params": {"plan": plan}})


def test_only_trading_is_bound_to_its_plans_interval() -> None:
    pipeline_hooks(Settings(market=None)).check_schedule("report/daily", "20 0 * * *", {"params": {"plan": "default"}})


def test_every_plan_that_is_missing_or_does_not_fit_is_named_at_once(file: Path) -> None:
    second = DEPLOYMENT.replace("paper", "second").replace("plan: default", "plan: missing")
    file.write_text("deployments:" + DEPLOYMENT.replace("0 * * * *", "0 0 * * *") + second)
    with pytest.raises(ConfigurationError) as caught:
        checked(read_declared(file, ENVIRONMENT), pipeline_hooks(Settings(market=None)).check_schedule)
    unfit, missing = caught.value.problems
    assert "trade/paper: cron: found '0 0 * * *'" in unfit
    assert "missing" in missing


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_projects_own_file_is_in_order() -> None:
    declared = read_declared(PROJECT / "prefect.yaml", ENVIRONMENT)
    assert [found.full_name for found in declared.deployments] == [
        "trade/paper",
        "trade/live",
        "reconcile/daily",
        "reconcile/live",
        "report/daily",
        "verify/hourly",
        "breaker/halt",
        "breaker/resume",
    ]
    assert {found.full_name for found in declared.deployments if found.work_pool.name == "live"} == {"trade/live"}
    on = {found.full_name for found in declared.deployments for schedule in found.schedules if schedule.active}
    assert on == {"trade/paper", "reconcile/daily", "report/daily", "verify/hourly"}, "nothing trades live by accident"
    assert {found.work_pool.job_variables["working_dir"] for found in declared.deployments} == {str(PROJECT)}
    check = pipeline_hooks(Settings(market=None)).check_schedule
    for found in declared.deployments:
        for schedule in found.schedules:
            check(found.full_name, schedule.cron, found.parameters)


def test_every_unknown_missing_and_wrong_key_is_named_at_once(file: Path) -> None:
    found = problems_of(
        file,
        """
  - {name: paper, entrypoint: flows/trade, work_pool: {name: local}, concurency_limit: 1,
     concurrency_limit: {limit: 0, collision_strategy: CANCEL_NEW, grace_period_seconds: 1}}
  - {name: daily, entrypoint: "flows/report.py:report", work_pool: {name: local}, concurrency_limit:
     {limit: 1, collision_strategy: CANCEL_NEW, grace_period_seconds: 60}, schedules: [{cron: "0 0 * * *", timezone: CET}]}
""",
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "deployments.0.entrypoint",
        "deployments.0.concurrency_limit.limit",
        "deployments.0.concurrency_limit.grace_period_seconds",
        "deployments.0.concurency_limit",
        "deployments.1.schedules.0.slug",
        "deployments.1.schedules.0.timezone",
    ]


def test_every_double_missing_file_and_unset_variable_is_named_at_once(file: Path) -> None:
    elsewhere = DEPLOYMENT.replace("flows/trade.py", "flows/gone.py").replace("$KEEL_PROJECT", "$KEEL_ELSEWHERE")
    step = DEPLOYMENT.replace("paper", "third").replace("{{ $KEEL_PROJECT }}", "{{ clone.directory }}")
    assert problems_of(file, DEPLOYMENT + elsewhere + step) == [
        "found {{ $KEEL_ELSEWHERE }}, expected {{ $NAME }} of a variable that is set",
        "found {{ clone.directory }}, expected {{ $NAME }} of a variable that is set",
        "deployments: trade/paper is declared twice",
        f"trade/paper: entrypoint: found no file {PROJECT}/flows/gone.py",
    ]


@pytest.mark.parametrize("text", ["- 1", "deployments: [", "just words", ""])
def test_what_is_no_mapping_is_said_with_the_files_name(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=str(file)):
        read_declared(file, ENVIRONMENT)


def test_a_missing_file_is_said(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_declared(file, ENVIRONMENT)


def test_variables_are_filled_in_as_prefect_would(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.utilities.templating import apply_values  # noqa: PLC0415 - only this test pays for it

    raw = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    monkeypatch.setenv("KEEL_PROJECT", str(PROJECT))
    theirs = apply_values(raw, {})
    ours = read_declared(PROJECT / "prefect.yaml", ENVIRONMENT)
    assert ours.model_dump(include={"pull"})["pull"] == theirs["pull"]
    assert [found.work_pool.job_variables for found in ours.deployments] == [
        found["work_pool"]["job_variables"] for found in theirs["deployments"]
    ]


def test_a_changed_file_has_another_fingerprint(file: Path) -> None:
    prints = []
    for cron in ("0 * * * *", "1 * * * *", "0 * * * *"):
        file.write_text("deployments:" + DEPLOYMENT.replace("0 * * * *", cron))
        prints.append(fingerprint(file, read_declared(file, ENVIRONMENT)))
    assert prints[0] == prints[2] != prints[1]


# ------------------------------------------------------------------------------------------------------------ the port


def test_a_port_where_a_program_listens_is_not_free() -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
