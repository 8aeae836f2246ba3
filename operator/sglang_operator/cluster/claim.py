"""The claim of the model cache: made once, owned as `reclaim` says, enlarged when the spec asks for more.

Kubernetes changes nothing else of a claim, and the model in it is worth keeping: what differs is told, not made anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.api.errors import FieldError
from sglang_operator.api.quantity import number
from sglang_operator.api.spec_model import Cache
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import (
    SPOILT,
    Owner,
    is_terminating,
    labels_of,
    name_of,
    notes_of,
    stamp,
    unix,
    with_owner,
)
from sglang_operator.cluster.paths import CLAIM
from sglang_operator.cluster.refusals import NameTakenError
from sglang_operator.render import names

REFUSED: Final = "serve.sglang.io/expansion-refused"  # what the cluster said to a larger size, and when
ASK_AGAIN_SECONDS: Final = 600.0  # somebody may allow expansion meanwhile
_FIELD: Final = "spec.model.cache"
_OTHER_CLAIM: Final = f"or name a claim of yours in {_FIELD}.claimName"
Object = dict[str, Any]
Live = Mapping[str, Any]


@dataclass(frozen=True)
class CacheClaim:
    """Brings the claim of one endpoint to the cluster."""

    api: Api
    owner: Owner

    async def keep(self, live: Live | None, rendered: Object, cache: Cache, now: float) -> bool:
        """Make of the claim, as it was read in this pass, what the spec says; whether something was written. Raises
        ApiError."""
        if live is None:
            return await self._create(rendered, cache)
        if is_terminating(live) or not is_ours(live, self.owner):
            return False
        references = owners(live, self.owner, cache)
        if references is None:
            return await self._enlarge(live, cache, now)
        # The version refuses it if somebody else has changed the list meanwhile. The size comes with the next pass.
        metadata = {"ownerReferences": references, "resourceVersion": live["metadata"]["resourceVersion"]}
        await self._patch(live, {"metadata": metadata})
        return True

    async def _create(self, rendered: Object, cache: Cache) -> bool:
        made = with_owner(self.owner, rendered) if cache.reclaim == "Delete" else rendered
        try:
            await self.api.create(CLAIM.of(self.owner.key.namespace), made)
        except ApiError as error:
            if not error.is_conflict:
                raise
        return True

    async def _enlarge(self, live: Live, cache: Cache, now: float) -> bool:
        said = refusal(live, cache.size)
        is_early = said is not None and now - unix(said["at"]) < ASK_AGAIN_SECONDS
        if is_early or not _is_bound(live) or number(cache.size) <= number(_size(live)):
            return False
        try:
            await self._patch(live, {"spec": {"resources": {"requests": {"storage": cache.size}}}})
        except ApiError as error:
            if error.is_passing:
                raise
            note = {"size": cache.size, "at": stamp(now), "message": error.message}
            await self._patch(live, {"metadata": {"annotations": {REFUSED: json.dumps(note)}}})
        return True

    async def _patch(self, live: Live, body: Object) -> None:
        await self.api.patch(CLAIM.of(self.owner.key.namespace, name_of(live)), body)


def is_ours(live: Live, owner: Owner) -> bool:
    """Whether the operator made it for an endpoint of this name, maybe an earlier one: it outlives the endpoint."""
    labels = labels_of(live)
    return labels.get(names.MANAGED_BY) == names.MANAGER and labels.get(names.ENDPOINT) == owner.key.name


def refuse_foreign(live: Live | None, owner: Owner) -> None:
    """Raises NameTakenError for a claim that has the name of ours: who made it keeps other things in it."""
    if live is not None and not is_ours(live, owner) and not owner.owns(live):
        remedy = f"name it in {_FIELD}.claimName if models may be kept in it, else another claim there, or delete it"
        raise NameTakenError(CLAIM.name, name_of(live), remedy)


def owners(live: Live, owner: Owner, cache: Cache) -> list[Any] | None:
    """metadata.ownerReferences as `reclaim` wants them; None if they are."""
    references = list(live["metadata"].get("ownerReferences") or ())
    if owner.owns(live) == (cache.reclaim == "Delete"):
        return None
    if cache.reclaim == "Delete":
        return [*references, owner.reference]
    return [reference for reference in references if reference.get("uid") != owner.uid]


def refusal(live: Live, size: str) -> Mapping[str, str] | None:
    """What the cluster said when it was asked for this size, if it refused. None also for what nobody can read any
    more: it is asked again, and says the same again if it must."""
    try:
        said = json.loads(notes_of(live).get(REFUSED, ""))
        unix(said["at"])
        return {"size": size, "at": said["at"], "message": str(said["message"])} if said["size"] == size else None
    except SPOILT:
        return None


def differences(live: Live | None, cache: Cache | None, owner: Owner) -> tuple[FieldError, ...]:
    """What the spec asks of the claim that it has not, and that only a person can change."""
    if live is None or cache is None or is_terminating(live):
        return ()
    return (*_fixed(live, cache), *_sizes(live, cache, owner))


def _fixed(live: Live, cache: Cache) -> Iterator[FieldError]:
    name, spec = name_of(live), live["spec"]
    remedy = (
        f"delete the claim when no pod uses it, so that it is made anew and the model downloaded again, {_OTHER_CLAIM}"
    )
    if cache.access_mode not in spec["accessModes"]:
        has = f"Kubernetes does not change the access mode of a claim, and {name} has {', '.join(spec['accessModes'])}"
        yield FieldError(f"{_FIELD}.accessMode", cache.access_mode, has, remedy)
    if cache.storage_class_name not in ("", spec.get("storageClassName")):
        has = (
            f"Kubernetes does not change the class of a claim, and {name} has {spec.get('storageClassName') or 'none'}"
        )
        yield FieldError(f"{_FIELD}.storageClassName", cache.storage_class_name, has, remedy)


def _sizes(live: Live, cache: Cache, owner: Owner) -> Iterator[FieldError]:
    field, name, size = f"{_FIELD}.size", name_of(live), _size(live)
    if number(cache.size) < number(size):
        message = f"Kubernetes does not shrink a claim, and {name} has {size}"
        yield FieldError(field, cache.size, message, f"write {size}, {_OTHER_CLAIM}")
    elif number(cache.size) == number(size):
        return
    elif not is_ours(live, owner):
        message = f"the claim {name} has {size} and was not made by the operator, which leaves it alone"
        yield FieldError(field, cache.size, message, "enlarge it by hand, or delete it")
    elif said := refusal(live, cache.size):
        message = f"the cluster refuses to enlarge the claim {name}, which has {size}: {said['message']}"
        remedy = f"set allowVolumeExpansion in its StorageClass if the storage can do it, {_OTHER_CLAIM}"
        yield FieldError(field, cache.size, message, remedy)
    elif not _is_bound(live):
        message = f"the claim {name} asks for {size} and has no volume yet; it is enlarged when it has one"
        yield FieldError(field, cache.size, message, f"wait, {_OTHER_CLAIM}")


def _size(live: Live) -> str:
    return str(live["spec"]["resources"]["requests"]["storage"])


def _is_bound(live: Live) -> bool:
    return bool((live.get("status") or {}).get("phase") == "Bound")
