"""What the cluster refuses, and what a refusal leaves to be done."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from http import HTTPStatus

from sglang_operator.cluster.api import ApiError


class NameTakenError(Exception):
    """An object of the name that is needed belongs to somebody else; it is left alone."""

    def __init__(self, kind: str, name: str, remedy: str = "delete it, or rename the endpoint") -> None:
        super().__init__(f"{kind} {name} exists and is not this endpoint's: {remedy}")
        self.kind = kind
        self.name = name


class StalePassError(Exception):
    """The cluster has changed since this pass read it; the next pass decides anew."""


Refusal = NameTakenError | ApiError | StalePassError


async def attempt(work: Awaitable[object]) -> tuple[Refusal, ...]:
    """Do it; what it was refused with, if it was. Raises what other writes would meet as well: no answer at all, or too
    many requests."""
    try:
        await work
    except ApiError as error:
        if error.is_of_any_write:
            raise
        return (error,)
    except (NameTakenError, StalePassError) as error:
        return (error,)
    return ()


def raise_first(refused: Iterable[Refusal]) -> None:
    """Raises the first of them that only a person can mend, as a condition has to say it, else the first."""
    if found := sorted(refused, key=_may_pass):
        raise found[0]


def is_outdated(error: Refusal) -> bool:
    """What the pass has read is not so any more: nothing else may be decided on it."""
    return isinstance(error, StalePassError) or (isinstance(error, ApiError) and error.is_conflict)


def is_invalid(error: Refusal) -> bool:
    """The object itself is none that the cluster takes."""
    return isinstance(error, ApiError) and error.status == HTTPStatus.UNPROCESSABLE_ENTITY and not error.is_conflict


def _may_pass(error: Refusal) -> bool:
    return is_outdated(error) or (isinstance(error, ApiError) and error.is_passing)
