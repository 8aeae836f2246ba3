"""What one pass decides: writes in their order, when to look again, and the conditions to report.

The writes carry what they were decided on, so that a write on old facts is refused: the uid of what is deleted, the
number of the record that is marked, and a `Fence` for everything that moves traffic, makes pods or ends them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sglang_operator.lifecycle.observed import Failure, TakenBack
from sglang_operator.lifecycle.reasons import Condition


@dataclass(frozen=True)
class Fence:
    """Facts that must still hold right before the write; a pass that has slept must not act on what it saw before."""

    service_version: str  # resourceVersion of the endpoint's Service; "" when there was none
    newest_record: int  # greatest number of a record, with the one that this plan writes


@dataclass(frozen=True)
class RecordRevision:
    """Write the record of the wanted revision, new or again, as the newest. A failure remembered there is cleared."""

    revision: str
    number: int


@dataclass(frozen=True)
class CreateRevision:
    """POST the RayService as its record holds it, with the in-place settings. Never an apply: the name may be somebody
    else's. The fence needs no look when the same pass has just written the record."""

    revision: str
    fence: Fence
    floor: int = 0  # replicas to have at least, where their number follows the requests


@dataclass(frozen=True)
class TryRevision:
    """POST the RayService as a dry run. What the API server would refuse must not cost the revision that serves."""

    revision: str
    floor: int = 0  # as of CreateRevision


@dataclass(frozen=True)
class ApplyInPlace:
    """Bring the in-place settings (replica bounds, user_config) to a running revision; no pod restarts."""

    revision: str
    settings: str
    floor: int = 0  # replicas to have at least, where their number follows the requests
    holding: bool = False  # its head goes on holding requests, although a replica is wanted by now
    taken_back: TakenBack | None = None  # no more replicas than these, whatever the settings say


@dataclass(frozen=True)
class SwitchService:
    """Let the endpoint's Service select `revision`; `previous` and the time go into the same write."""

    revision: str
    previous: str
    fence: Fence  # its resourceVersion goes into the write itself


@dataclass(frozen=True)
class StartDrain:
    """Mark the record, then ask the revision's front to let clients go (`Connection: close`)."""

    revision: str


@dataclass(frozen=True)
class CancelDrain:
    """Take the mark away and let the front keep connections again."""

    revision: str


@dataclass(frozen=True)
class FreeAccelerators:
    """End the worker pods of a failed revision, whose head and objects stay for reading, or of a half placed one."""

    revision: str
    uid: str
    fence: Fence


@dataclass(frozen=True)
class Retire:
    """Delete the RayService; RayCluster and pods follow. `uid` is a precondition of the delete."""

    revision: str
    uid: str
    fence: Fence


@dataclass(frozen=True)
class RememberFailure:
    """Write the failure into the record, before any pod that could tell of it goes."""

    revision: str
    number: int  # of the record as read: refused when the revision was recorded anew since
    failure: Failure


@dataclass(frozen=True)
class ForgetRecord:
    """Delete the record of a revision of which nothing else is left, beyond historyLimit."""

    revision: str


Action = (
    RecordRevision
    | CreateRevision
    | TryRevision
    | ApplyInPlace
    | SwitchService
    | StartDrain
    | CancelDrain
    | FreeAccelerators
    | Retire
    | RememberFailure
    | ForgetRecord
)


@dataclass(frozen=True)
class WaitUntil:
    """Look again then, even if nothing changes before: a limit ends. Unix seconds."""

    at: float
    why: str


@dataclass(frozen=True)
class Plan:
    """The outcome of one pass. `actions` are done in order and stop at the first that is refused or fails."""

    actions: tuple[Action, ...] = ()
    wait: WaitUntil | None = None
    conditions: tuple[Condition, ...] = ()
