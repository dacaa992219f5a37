"""Large outputs that do not lie beside the database: how a command is told where, and what it says if it was not."""

from __future__ import annotations

import re
from pathlib import Path

from musubito.cli.words import clean, times
from musubito.contents.blobs import BlobStore, FolderBlobs
from musubito.contents.objects import ObjectBlobs
from musubito.errors import MusubitoError
from musubito.lineage import Lineage
from musubito.lineage.blobs import blobs, missing, place_of_blobs, used

__all__ = ["blobs_at", "must_be_its_own", "not_found"]


def blobs_at(said: str) -> BlobStore:
    """The blobs at a URL as obstore takes it, or in a folder of `FolderBlobs`."""
    if "://" not in said:
        if not Path(said).is_dir():
            raise MusubitoError(
                f"--blobs: {clean(said)} is no folder; name one, or give a URL such as s3://bucket/prefix."
            )
        return FolderBlobs(said)
    try:
        from obstore.store import from_url  # noqa: PLC0415 - who keeps no objects need not have it
    except ImportError as error:
        raise MusubitoError("--blobs needs obstore; install it with: pip install 'musubito[objects]'") from error
    try:
        return ObjectBlobs(from_url(said))
    except Exception as error:  # obstore has many, and some are of no class of its own
        # What follows the first line is how the library saw the URL. Even that line may quote it.
        why = "" if re.search(r"[@?]", said) else f" ({(str(error).splitlines() or [''])[0]})"
        raise MusubitoError(
            f"--blobs: no object store is to be had by {clean(_shown(said))}{clean(why)}. Say s3://bucket/prefix, "
            "gs://bucket/prefix, az://container/prefix or file:///folder; credentials and the account come from the "
            "environment."
        ) from error


def _shown(url: str) -> str:
    """Without what may be a secret."""
    return re.sub(r"[?#].*", "?...", re.sub(r"(?<=://).*@", "...@", url, flags=re.DOTALL), flags=re.DOTALL)


def must_be_its_own(lineage: Lineage, *, named_together: bool) -> None:
    """Before anything is removed: what no row names goes, so that in another database's place all would. Where not one
    blob is this database's own, what lies there may be left of what it once had; or else the environment names the
    place of another database than the one that was named by hand."""
    found, own = blobs(lineage), used(lineage)
    others = len(found.orphans) + len(found.young)
    place, lost = place_of_blobs(lineage), missing(lineage)
    # An equal output of two databases has one name: of two that were not named together, one that is there says little.
    if not others or (own and (named_together or not lost)):
        return
    if lost:
        raise MusubitoError(
            f"{times(len(lost), 'large output')} of this database not found in {place}, but "
            f"{times(others, 'other blob')}: nothing was removed. Name with --blobs the place that its engines have."
        )
    if not named_together:
        raise MusubitoError(
            f"no row of this database names any of the {times(others, 'blob')} in {place}: nothing was removed. If "
            "they are its own all the same, give --blobs before the command, in place of MUSUBITO_BLOBS."
        )


def not_found(lineage: Lineage, number: int) -> str:
    """That so many large outputs, of which no row is left, were not found in the place of blobs."""
    place = place_of_blobs(lineage)
    where = "" if place is None else f" in {clean(place)}"
    return (
        f"{times(number, 'large output')} not found{where}: if large outputs lie elsewhere (ObjectBlobs), they are "
        "still there, and a later 'musubito --blobs URL prune' removes them."
    )
