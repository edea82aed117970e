"""Invariants that stay on in production (`assert` vanishes under `python -O`)."""

from quoit.base.errors import InvariantViolated

__all__ = ["invariant"]


def invariant(condition: object, message: str, **facts: object) -> None:
    """Raise InvariantViolated with `facts` unless `condition` holds. A violation stops the node."""
    if not condition:
        detail = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise InvariantViolated(f"{message} ({detail})" if detail else message)
