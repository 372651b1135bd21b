"""A call of the API as its endpoints see it, and where endpoints are registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trading.simulator.keys import Key
from trading.simulator.listing import Listing
from trading.simulator.shapes import Body
from trading.simulator.simulation import Simulation


class HttpError(Exception):
    """An answer other than 200, with the venue's error body."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "error_details": message, "message": message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: who, with which parts of the path, query values (repeated keys) and body."""

    key: Key | None
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Mapping[str, Any]
    sha256: str = ""
    extra: Mapping[str, Any] | None = None
    """What a fault adds to the command."""

    def one(self, name: str, default: str = "") -> str:
        values = self.query.get(name) or [default]
        return values[0]

    def many(self, name: str) -> list[str]:
        """All values of a repeated key; an empty list asks for everything."""
        return [value for value in self.query.get(name, []) if value]

    def count(self, default: int, most: int) -> int:
        """`limit`, silently capped as at the venue. Raises HttpError 400 for anything but a number."""
        asked = self.one("limit", str(default)) or str(default)
        if not asked.isdigit():
            raise HttpError(400, "INVALID_ARGUMENT", f"limit {asked!r} is not a number")
        return min(int(asked) or default, most)

    @property
    def portfolio(self) -> str:
        assert self.key is not None
        return self.key.portfolio


Endpoint = Callable[[Simulation, Call], Body]


@dataclass(frozen=True, slots=True)
class Route:
    """Where an endpoint is, and what a key needs for it: nothing (`public`), `view` or `trade`."""

    name: str
    method: str
    path: str
    answer: Endpoint
    needs: str = "view"


def listed(sim: Simulation, product: str) -> Listing:
    found = sim.venue.products.get(product)
    if found is None:
        raise HttpError(404, "NOT_FOUND", f"Product {product} not supported")
    return found


def traded(sim: Simulation, product: str) -> Listing:
    found = listed(sim, product)
    if found.book not in sim.venue.floor.last:
        raise HttpError(404, "NOT_FOUND", f"Product {product} has not traded yet")
    return found
