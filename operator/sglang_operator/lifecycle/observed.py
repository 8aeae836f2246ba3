"""What one pass has read: revisions, the endpoint's Service, and what the operator may do. Frozen; no I/O here.

All times are Unix seconds of one clock, that of the pass which read them; durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Presence(Enum):
    """Whether the RayService of a revision is there."""

    ABSENT = "Absent"
    PRESENT = "Present"
    TERMINATING = "Terminating"


class Probe(Enum):
    """What real generation requests to the ready replicas came to, all sent in this pass."""

    NOT_ASKED = "NotAsked"
    ANSWERED = "Answered"  # `Live.answered` says how many replicas did
    WRONG = "Wrong"  # reached, but the answer was an error
    UNREACHABLE = "Unreachable"  # no connection, though the pods are Ready: most often a NetworkPolicy


@dataclass(frozen=True)
class Failure:
    """Why a revision cannot serve. The log's tail is kept here because the pods that wrote it go."""

    reason: str
    message: str
    at: float
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The part of a revision's record (ControllerRevision) that decisions use.

    `number` grows: the wanted revision has the greatest. A remembered failure counts only while its record is the
    newest, so a spec that went elsewhere and came back is tried again.
    """

    number: int
    failure: Failure | None = None
    draining_since: float | None = None  # the revision was told to end; kept after its pods are gone


@dataclass(frozen=True)
class Unschedulable:
    """Since when the scheduler has had no room for a pod, and what it says."""

    since: float
    message: str = ""
    queued: bool = False  # it waits for its turn (Kueue), not for a node that fits


@dataclass(frozen=True)
class TakenBack:
    """A revision was told to have no more replicas than are whole: one more had nodes for some of its pods only."""

    replicas: int
    at: float


@dataclass(frozen=True)
class Front:
    """Requests that a revision still works on, told in this pass by every pod that may have some, or by the head while
    no replica runs. Each response ends its connection, so connections say no more."""

    in_flight: int
    quiet_since: float | None = None  # none since then


@dataclass(frozen=True)
class Live:
    """What exists of a revision now. The default is: nothing."""

    presence: Presence = Presence.ABSENT
    uid: str = ""
    clusters: int = 0  # RayClusters, terminating ones included
    pods: int = 0  # all pods, terminating ones included
    worker_pods: int = 0  # those of them that hold accelerators
    released: bool = False  # was told to have no worker pods any more (`FreeAccelerators`)
    ready_replicas: int = 0  # running replicas, each on a Ready pod; pods without a replica do not count
    target_replicas: int | None = None  # what Ray Serve wants to run now; None: it has not said
    holds: bool = False  # its head takes requests and holds them while there is no replica
    may_hold: bool = False  # the same, though KubeRay may have taken the head out of the Service: one failed check does
    waking_since: float | None = None  # it was asleep, has worker pods since then, and none of them answers yet
    probe: Probe = Probe.NOT_ASKED
    answered: int = 0  # ready replicas whose engine generated for the probe; 0 when they were only looked at
    answered_since: tuple[float, ...] = ()  # when each of them first did, the earliest first
    ends_again: bool = False  # its workers end again and again, however slowly
    progress: float | None = None  # the last sign of it: a cluster or pod made, a node got, pull, bytes, load
    unschedulable: Unschedulable | None = None
    placed: int = 0  # replicas all of whose pods have nodes
    half_placed_since: float | None = None  # a replica of several pods has had nodes for some of them, and no others
    complaint: str = ""  # what keeps pods from coming or starting, and is tried again by itself
    failure: Failure | None = None  # what the pods say now, when no retry will mend it
    mishap: str = ""  # why a replica ended, while another try is under way
    head_lost: bool = False  # its cluster has no head pod that is Ready: true of each one that starts, too
    outlives_head: bool = False  # its Ray cluster has Redis: what runs goes on without a head
    front_pods: int = 0  # worker pods that clients' streams may be on, whether or not they tell of them
    unready_since: float | None = None  # there are such pods, and the kubelet has called none of them Ready since then
    front: Front | None = None  # None: not all that may have streams were heard in this pass
    settings: str = ""  # the in-place settings last written, as `Wanted.settings`
    floor: int = 0  # replicas that it was last told to have at least
    holding: bool = False  # its head was last told to hold requests although a replica is wanted
    taken_back: TakenBack | None = None  # as it was last told

    @property
    def half_placed(self) -> bool:
        """A replica of several pods has nodes for some of them, and none for the others."""
        return self.half_placed_since is not None

    @property
    def whole(self) -> int:
        """Replicas that have all of their pods, or answer as if they had."""
        return max(self.placed, self.ready_replicas)

    @property
    def may_hold_requests(self) -> bool:
        """Its workers may have streams, or its head may hold requests until there is a replica."""
        return self.front_pods > 0 or self.holds or self.may_hold


@dataclass(frozen=True)
class Revision:
    """One revision by its name: its record, if it has one, and what exists of it."""

    name: str
    record: Record | None = None
    live: Live = field(default_factory=Live)

    @property
    def present(self) -> bool:
        """The RayService is there and stays."""
        return self.live.presence is Presence.PRESENT

    @property
    def gone(self) -> bool:
        """Nothing is left, so the name is free. KubeRay does not repair Services of a name that returns too early."""
        return self.live.presence is Presence.ABSENT and not self.live.clusters and not self.live.pods

    @property
    def holds_pods(self) -> bool:
        """It has pods or will get them; objects that are merely on their way out do not count."""
        return self.present or self.live.pods > 0

    @property
    def running(self) -> bool:
        """It can answer: there is a ready replica, and the revision is not on its way out."""
        return self.present and self.live.ready_replicas > 0

    @property
    def may_answer(self) -> bool:
        """It is `running`, or has pods that were Ready: this pass may have missed them."""
        return self.running or (self.present and self.live.front_pods > 0)

    @property
    def asleep(self) -> bool:
        """No replica runs because none is asked for, and its head waits for requests."""
        live = self.live
        return self.present and live.holds and not live.ready_replicas and live.target_replicas == 0

    @property
    def is_excused(self) -> bool:
        """It makes no progress and is not to blame: no node, no way to its pods, or nothing asked of it until now."""
        return self.asleep or self.live.unschedulable is not None or self.live.probe is Probe.UNREACHABLE

    @property
    def begins_anew(self) -> bool:
        """Its time begins when it is excused no more. Not of one that ends again and again: each new pod waits a moment
        for its node."""
        return self.is_excused and not self.live.ends_again

    @property
    def draining_since(self) -> float | None:
        """When it was told to end, or None."""
        return self.record.draining_since if self.record else None


@dataclass(frozen=True)
class Selection:
    """What the endpoint's Service selects. All of it is written in one request, so it is never half true."""

    revision: str = ""  # "": no Service yet, or it selects no revision
    previous: str = ""  # selected before
    switched_at: float = 0.0
    resource_version: str = ""


NOTHING: Final = Selection()


@dataclass(frozen=True)
class Observed:
    """All that one pass has read about an endpoint."""

    revisions: tuple[Revision, ...] = ()
    service: Selection = NOTHING
    unanswered_since: float | None = None  # since when earlier passes found, too, that what is selected does not answer
    kuberay_silent: bool = False  # KubeRay has not acted for so long that what it reports may be old
    kuberay_said: str = ""  # what is known of why it does not act
    paused: bool = False
    resumed_at: float = 0.0  # when the endpoint was last paused no more, KubeRay silent no more, or all was done
    counts_from: float = 0.0  # since when the wanted revision does not `begins_anew`, as far as passes have looked

    def get(self, name: str) -> Revision:
        """The revision of that name; one that never existed when there is none."""
        return next((revision for revision in self.revisions if revision.name == name), Revision(name))

    @property
    def newest_number(self) -> int:
        """The greatest number of a record, 0 without any."""
        return max((revision.record.number for revision in self.revisions if revision.record), default=0)
