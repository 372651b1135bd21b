"""Parameters of the deployments: the form that the Prefect UI shows. No secret is ever a parameter."""

from __future__ import annotations

from typing import Literal

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


class ReconcileParameters(PlanParameters):
    """Whose books are compared."""

    mode: Literal["paper", "rehearsal", "live"] = Field(
        default="paper", title="Mode", description="paper, or real orders: those are read with the key that only views."
    )


class RealParameters(PlanParameters):
    """Which plan trades with real orders, and where."""

    mode: Literal["rehearsal", "live"] = Field(
        default="rehearsal",
        title="Mode",
        description="rehearsal: the live code against the simulated Coinbase on this machine; live: Coinbase itself.",
    )


class ReportParameters(PlanParameters):
    """What the report covers."""

    mode: Literal["paper", "rehearsal", "live"] = Field(default="paper", title="Mode", description="Whose books are shown.")
    days: int = Field(default=30, ge=1, le=3650, title="Days", description="How many days of history the report shows.")


class HaltParameters(BaseModel):
    """Which breaker to open, how far, and why."""

    model_config = ConfigDict(extra="forbid")

    scope: str = Field(default="global", title="Scope", description="As `keel breaker show` names it; global stops everything.")
    level: Literal["reduce_only", "no_new", "cancel"] = Field(
        default="cancel",
        title="Level",
        description="reduce_only: sales only; no_new: protective exits only; cancel: as that, and what rests and adds risk goes.",
    )
    reason: str = Field(min_length=3, max_length=500, title="Reason", description="Why; stored for ever.")


class ResumeParameters(PlanParameters):
    """Whose breakers to lead out of; the reason is asked for while it runs."""

    mode: Literal["paper", "rehearsal", "live"] = Field(
        default="paper", title="Mode", description="For live a request is filed, which `keel resume` completes."
    )
