"""Measured figures, each beside its floor in one run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.cli.console import Json, print_json

Name = Annotated[
    str, typer.Argument(help="cycle, dashboard, halt, latency, live, orders, positions, replay, risk, start, validate or verify.")
]
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def bench(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Run a bench: ours, the floor beside it, and their ratio. Further options are the bench's own: --products 100, --bare."""
    from importlib import import_module
    from importlib.util import find_spec

    if not name.isidentifier() or find_spec(f"deployments.bench.{name}") is None:
        raise typer.BadParameter(f"found {name!r}, expected one of {', '.join(names())}", param_hint="NAME")
    found = import_module(f"deployments.bench.{name}").run(**options(context.args))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        print(f"{key:16} {f'{value:,.3f}' if isinstance(value, float) else value}")


def names() -> list[str]:
    """The benches there are."""
    from importlib.resources import files

    found = (entry.name for entry in files("deployments.bench").iterdir())
    return sorted(name.removesuffix(".py") for name in found if name.endswith(".py") and not name.startswith("_"))


def options(arguments: list[str]) -> dict[str, Any]:
    """`--products 100 --bare` as keywords: numbers as int, flags as True."""
    found: dict[str, Any] = {}
    key = ""
    for argument in arguments:
        if argument.startswith("--"):
            key, _, value = argument[2:].replace("-", "_").partition("=")
            found[key] = int(value) if value.isdigit() else value or True
        elif key:
            found[key] = int(argument) if argument.isdigit() else argument
        else:
            raise typer.BadParameter(f"found {argument!r}, expected an option of the bench")
    return found
