"""The quality gate: every fetch is judged by a Great Expectations suite before a cycle may act on it.

Public: `QualityGate().judge(...)` -> `Verdict`, with the tolerances of `QualityRules`.
"""

from trading.quality.gate import QualityGate
from trading.quality.verdict import Failure, Outcome, QualityRules, Verdict

__all__ = ["Failure", "Outcome", "QualityGate", "QualityRules", "Verdict"]
