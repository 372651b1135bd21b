"""Parameters of the deployments: the form that the Prefect UI shows. No secret is ever a parameter."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PlanParameters(BaseModel):
    """Which plan to work on."""

    model_config = ConfigDict(extra="forbid")

    plan: str = Field(
        default="default",
        title="Plan",
        description="Name of a plan in config/plans: what is traded, by which strategy, within which limits.",
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
    )


class ReportParameters(PlanParameters):
    """What the report covers."""

    days: int = Field(default=30, ge=1, le=3650, title="Days", description="How many days of history the report shows.")
