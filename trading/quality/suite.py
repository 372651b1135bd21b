"""The Great Expectations side of the gate: a custom expectation over facts, and the suites that are made of it.

Importing this module imports Great Expectations, which costs about five CPU-seconds: the gate does it on first use.

Speed decides the form. A built-in column-map expectation resolves eight metrics and costs about 10 ms whatever the number of
rows; this one resolves one metric of its own and answers with the failing rows, so that no second run is needed to name
them. And a suite hands its rows to an execution engine of its own: the way through a data context looks every source up anew,
hashes the frame twice and rebuilds each expectation from its configuration, which costs four times what the judgement does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any, ClassVar

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.expectation_configuration import parse_result_format
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.metrics_calculator import MetricsCalculator
from great_expectations.validator.validation_graph import tqdm
from great_expectations.validator.validator import ValidationDependencies

from trading.errors import KeelError
from trading.market import Floats, Ints
from trading.quality.verdict import Rule

ROWS_OUTSIDE = "candles.rows_outside"
_ROWS = "rows"  # the batch's name in an engine that holds no other
logging.getLogger("great_expectations").setLevel(logging.WARNING)
# Even a progress bar that is switched off takes its lock, which forked processes share: one that is killed there would leave
# every other one waiting for ever. No bar is shown here, so a lock of this process is enough, and no thread need watch over it.
tqdm.set_lock(RLock())
tqdm.monitor_interval = 0


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


class Suite:
    """A named suite of rules, built once and run against many frames."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.name = name
        self.rules = tuple(rules)
        expectations = [
            ExpectFactBetween(fact=rule.fact, least=rule.least, most=rule.most, meta={"name": rule.name}, batch_id=_ROWS)
            for rule in rules
        ]
        self.suite = gx.ExpectationSuite(name=name, expectations=expectations)

    def failing(self, facts: Mapping[str, Floats]) -> dict[str, Ints]:
        """Positions in the facts of the failing rows by the name of each rule, empty for a rule that passed.

        Raises KeelError when an expectation could not be evaluated: a broken check is never a passed one.
        """
        engine = PandasExecutionEngine(batch_data_dict={_ROWS: pd.DataFrame(facts)})
        metrics = self._measured(engine)
        found: dict[str, Ints] = {}
        for expectation in self.suite.expectations:
            result = expectation.metrics_validate(metrics, {"result_format": "BASIC"}, engine)
            found[expectation.meta["name"]] = result.result["rows"]
        missing = [rule.name for rule in self.rules if rule.name not in found]
        if missing:
            raise KeelError(f"quality suite {self.name}: no result for {', '.join(missing)}")
        return found

    def _measured(self, engine: PandasExecutionEngine) -> dict[Any, Any]:
        """What every expectation depends on, resolved in one graph."""
        wanted = {
            metric.id: (expectation.meta["name"], metric)
            for expectation in self.suite.expectations
            for metric in expectation.get_validation_dependencies(engine).get_metric_configurations()
        }
        calculator = MetricsCalculator(engine, show_progress_bars=False)
        graph = calculator.build_metric_dependency_graph([metric for _, metric in wanted.values()], {})
        metrics, aborted = calculator.resolve_validation_graph(graph, {})
        for metric_id, (name, _) in wanted.items():
            if metric_id not in metrics:
                raise KeelError(f"quality suite {self.name}, expectation {name}: not evaluated: {aborted.get(metric_id)}")
        return dict(metrics)
