"""Checks before an order, the breaker around all orders, and the two faces for library users."""

from trading.risk.validator import Approved, Evaluation, Outcome, Refused, Validator, validate

__all__ = ["Approved", "Evaluation", "Outcome", "Refused", "Validator", "validate"]
