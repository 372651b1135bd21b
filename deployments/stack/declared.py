"""What `prefect.yaml` declares. A key that is not known here is refused: what would be ignored must not look set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.settings import PROJECT
from trading.errors import ConfigurationError
from trading.plan import worded

CheckSchedule = Callable[[str, str, Mapping[str, Any]], None]
"""(deployment, cron, parameters): raises ConfigurationError when the cron does not fit what the parameters name."""

_PLACEHOLDER = re.compile(r"{{\s*(.+?)\s*}}")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(Part):
    cron: str
    slug: str = Field(description="names the schedule, so that a new version of it replaces the old one")
    timezone: Literal["UTC"] = "UTC"
    """A zone with daylight saving skips or doubles an hour twice a year."""
    active: bool = True


class Pool(Part):
    name: str
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Concurrency(Part):
    limit: int = Field(ge=1)
    collision_strategy: Literal["CANCEL_NEW", "ENQUEUE"]
    grace_period_seconds: int = Field(ge=60, le=86400)


class Declaration(Part):
    """One deployment."""

    name: str
    description: str = ""
    entrypoint: str = Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    enforce_parameter_schema: bool = True
    work_pool: Pool
    concurrency_limit: Concurrency
    schedules: list[Schedule] = Field(default_factory=list)

    @property
    def flow_name(self) -> str:
        """Prefect's name of the flow: its function's, with dashes."""
        return self.entrypoint.rpartition(":")[2].replace("_", "-")

    @property
    def full_name(self) -> str:
        return f"{self.flow_name}/{self.name}"

    @property
    def source(self) -> Path:
        return PROJECT / self.entrypoint.rpartition(":")[0]


class Declared(Part):
    """The whole file."""

    prefect_version: str | None = Field(default=None, alias="prefect-version")
    name: str | None = None
    pull: list[dict[str, Any]] = Field(default_factory=list)
    definitions: Any = None
    deployments: list[Declaration] = Field(min_length=1)


def read_declared(file: Path, environment: Mapping[str, str]) -> Declared:
    """The declared deployments, environment variables filled in. Raises ConfigurationError with every problem."""
    unknown: set[str] = set()
    try:
        raw = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{file}: found no mapping, expected the keys of a prefect.yaml")
    try:
        declared = Declared.model_validate(_filled(raw, environment, unknown))
    except ValidationError as error:
        raise ConfigurationError([f"{file}: {key}: {text}" for key, text in worded(error, Declared)]) from None
    placeholders = [f"found {name}, expected {{{{ $NAME }}}} of a variable that is set" for name in sorted(unknown)]
    if problems := placeholders + _problems(declared):
        raise ConfigurationError([f"{file}: {problem}" for problem in problems])
    return declared


def checked(declared: Declared, check_schedule: CheckSchedule) -> Declared:
    """The same, when every schedule is right for what its parameters name. Raises ConfigurationError with every problem."""
    problems: list[str] = []
    for declaration in declared.deployments:
        for schedule in declaration.schedules:
            try:
                check_schedule(declaration.full_name, schedule.cron, declaration.parameters)
            except ConfigurationError as error:
                problems += error.problems
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))  # a bad plan is named once, however many run it
    return declared


def _filled(value: Any, environment: Mapping[str, str], unknown: set[str]) -> Any:
    """The value with `{{ $NAME }}` replaced, as `prefect deploy` would; other placeholders are collected in `unknown`.

    Not by Prefect's own function: importing it takes longer than all of the checks, which come before anything starts.
    """
    if isinstance(value, Mapping):
        return {key: _filled(item, environment, unknown) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, environment, unknown) for item in value]
    return _PLACEHOLDER.sub(lambda found: _variable(found, environment, unknown), value) if isinstance(value, str) else value


def _variable(found: re.Match[str], environment: Mapping[str, str], unknown: set[str]) -> str:
    name = found.group(1).removeprefix("$")
    if not found.group(1).startswith("$") or name not in environment:
        unknown.add(found.group())
    return environment.get(name, "")


def _problems(declared: Declared) -> list[str]:
    names = [declaration.full_name for declaration in declared.deployments]
    found = [f"deployments: {name} is declared twice" for name in sorted({name for name in names if names.count(name) > 1})]
    missing = [declaration for declaration in declared.deployments if not declaration.source.is_file()]
    return found + [f"{declaration.full_name}: entrypoint: found no file {declaration.source}" for declaration in missing]


def fingerprint(file: Path, declared: Declared) -> str:
    """Changes when the file, a source beside an entrypoint, the checkout's place or Prefect's version does."""
    digest = hashlib.sha256(f"{PROJECT}\n{version('prefect')}\n".encode())
    folders = {declaration.source.parent for declaration in declared.deployments}
    for source in [file, *sorted(path for folder in folders for path in folder.glob("*.py"))]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
