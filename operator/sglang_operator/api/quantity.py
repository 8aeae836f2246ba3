"""Kubernetes quantities as numbers: `500m`, `1.5`, `64Gi`."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_UNITS: Final = {
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    **{unit: Decimal(10) ** (3 * power) for power, unit in enumerate("MGTPE", start=2)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def number(quantity: str) -> Decimal:
    """The value of a quantity that the API accepted."""
    digits = digits_of(quantity)
    return Decimal(digits) * _UNITS.get(quantity[len(digits) :], Decimal(1))


def digits_of(quantity: str) -> str:
    """A quantity without its unit."""
    return quantity.rstrip("mkKMGTPEi")
