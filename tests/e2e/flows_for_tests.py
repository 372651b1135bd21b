"""A flow that only takes its time."""

from __future__ import annotations

import time

from prefect import flow
from pydantic import BaseModel, Field


class Parameters(BaseModel):
    """What the run shall do."""

    seconds: float = Field(description="How long the run takes.")


@flow(name="trade", retries=0)
def trade(params: Parameters) -> None:
    time.sleep(params.seconds)
