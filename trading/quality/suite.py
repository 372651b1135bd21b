"""The Great Expectations side of the gate: a custom expectation over facts, and one context per process.

Importing this module imports Great Expectations, which costs about five CPU-seconds: the gate does it on first use.

Speed decides the form. A built-in column-map expectation resolves eight metrics and costs about 10 ms whatever the number of
rows; this one resolves one metric of its own and costs about 0.4 ms, and answers with the failing rows, so that no second
run is needed to name them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.expectation_configuration import parse_result_format
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.validator import ValidationDependencies

from trading.errors import KeelError
from trading.market import Ints
from trading.quality.verdict import Rule

ROWS_OUTSIDE = "candles.rows_outside"


class RowsOutside(TableMetricProvider):  # type: ignore[misc] # the library has no usable types
    """Positions of the rows whose fact lies outside its bounds; NaN means that the rule does not apply to the row."""

    metric_name = ROWS_OUTSIDE
    value_keys = ("fact", "least", "most")

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,  # noqa: N805 - the library calls it as a class method
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_others: Any,
    ) -> Ints:
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        fact = frame[metric_value_kwargs["fact"]].to_numpy()
        least, most = metric_value_kwargs.get("least"), metric_value_kwargs.get("most")
        outside = np.zeros(len(fact), dtype=bool)
        if least is not None:
            outside |= fact < least
        if most is not None:
            outside |= fact > most
        return np.flatnonzero(outside)


class ExpectFactBetween(BatchExpectation):  # type: ignore[misc]
    """Expects a fact of every row to lie between `least` and `most`, both included, either may be absent."""

    fact: str
    least: float | None = None
    most: float | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (ROWS_OUTSIDE,)
    success_keys: ClassVar[tuple[str, ...]] = ("fact", "least", "most")
    args_keys: ClassVar[tuple[str, ...]] = ("fact", "least", "most")

    def get_validation_dependencies(
        self,
        execution_engine: Any = None,  # noqa: ARG002 - the library's signature
        runtime_configuration: dict[str, Any] | None = None,
    ) -> ValidationDependencies:
        """The one metric, named directly: the general way rebuilds this expectation's configuration some 30 times a run."""
        metric = MetricConfiguration(
            metric_name=ROWS_OUTSIDE,
            metric_domain_kwargs={"batch_id": self.batch_id},
            metric_value_kwargs={"fact": self.fact, "least": self.least, "most": self.most},
        )
        wanted = parse_result_format((runtime_configuration or {}).get("result_format", "BASIC"))
        return ValidationDependencies(metric_configurations={ROWS_OUTSIDE: metric}, result_format=wanted)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002 - the library's signature
        execution_engine: Any = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        rows = metrics[ROWS_OUTSIDE]
        return {"success": len(rows) == 0, "result": {"observed_value": len(rows), "rows": rows}}


@functools.cache
def _everything() -> Any:
    """The batch definition `all rows of a frame` in this process's only, ephemeral, context."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("candles")
    return asset.add_batch_definition_whole_dataframe("all")


class Suite:
    """A named suite of rules, built once and run against many frames."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.name = name
        self.rules = tuple(rules)
        expectations = [
            ExpectFactBetween(fact=rule.fact, least=rule.least, most=rule.most, meta={"name": rule.name}) for rule in rules
        ]
        self.suite = gx.ExpectationSuite(name=name, expectations=expectations)

    def failing(self, facts: pd.DataFrame) -> dict[str, Ints]:
        """Positions of the failing rows by the name of each rule, empty for a rule that passed.

        Raises KeelError when an expectation could not be evaluated: a broken check is never a passed one.
        """
        batch = _everything().get_batch(batch_parameters={"dataframe": facts})
        answer = batch.validate(self.suite, result_format="BASIC")
        found: dict[str, Ints] = {}
        for result in answer.results:
            name = result.expectation_config.meta["name"]
            if "rows" not in result.result:
                raise KeelError(f"quality suite {self.name}, expectation {name}: not evaluated: {result.exception_info}")
            found[name] = result.result["rows"]
        missing = [rule.name for rule in self.rules if rule.name not in found]
        if missing:
            raise KeelError(f"quality suite {self.name}: no result for {', '.join(missing)}")
        return found
