"""A flow that only takes its time, and one that breaks while it holds the key that trades."""

from __future__ import annotations

import time

from coinbase.jwt_generator import build_rest_jwt
from prefect import flow, task
from pydantic import BaseModel, Field

from config.credentials import CoinbaseKey, get_credentials_manager


class Parameters(BaseModel):
    """What the run shall do."""

    seconds: float = Field(description="How long the run takes.")


@flow(name="trade", retries=0)
def trade(params: Parameters) -> None:
    time.sleep(params.seconds)


@flow(name="breaks", retries=0)
def breaks(params: Parameters) -> None:
    key = get_credentials_manager().get_coinbase_credentials()
    time.sleep(params.seconds)
    sign_and_break(lambda: key)


@task(name="sign and break", retries=0)
def sign_and_break(holds: object) -> None:
    key: CoinbaseKey = holds()  # type: ignore[operator]
    build_rest_jwt("GET api.coinbase.com/api/v3/brokerage/accounts", key.name.reveal(), key.private.reveal())
    raise RuntimeError(f"it broke while it held {key!r} {key.private!r}")
