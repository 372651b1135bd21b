"""What `prefect.yaml` declares. A key that is not known here is refused: what would be ignored must not look set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import prefect
import yaml
from prefect.utilities.templating import apply_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.settings import PROJECT
from trading.errors import ConfigurationError
from trading.plan import worded


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


def read_declared(file: Path) -> Declared:
    """The declared deployments, environment variables filled in. Raises ConfigurationError with every problem."""
    try:
        raw = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{file}: found no mapping, expected the keys of a prefect.yaml")
    try:
        declared = Declared.model_validate(apply_values(dict(raw), {}))
    except ValidationError as error:
        raise ConfigurationError([f"{file}: {key}: {text}" for key, text in worded(error, Declared)]) from None
    if problems := _problems(declared):
        raise ConfigurationError([f"{file}: {problem}" for problem in problems])
    return declared


def _problems(declared: Declared) -> list[str]:
    names = [declaration.full_name for declaration in declared.deployments]
    found = [f"deployments: {name} is declared twice" for name in sorted({name for name in names if names.count(name) > 1})]
    missing = [declaration for declaration in declared.deployments if not declaration.source.is_file()]
    return found + [f"{declaration.full_name}: entrypoint: found no file {declaration.source}" for declaration in missing]


def fingerprint(file: Path, declared: Declared) -> str:
    """Changes when the file, a source beside an entrypoint, the checkout's place or Prefect's version does."""
    digest = hashlib.sha256(f"{PROJECT}\n{prefect.__version__}\n".encode())
    folders = {declaration.source.parent for declaration in declared.deployments}
    for source in [file, *sorted(path for folder in folders for path in folder.glob("*.py"))]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
