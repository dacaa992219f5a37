"""Find large outputs that do not lie beside the database, and say so if they are not there."""

from __future__ import annotations

import re
from pathlib import Path

from musubito.errors import MusubitoError
from musubito.lineage import Lineage
from musubito.lineage.readers.blobs import blob_location, blobs, missing, used
from musubito.lineage.readers.formatting import clean, times
from musubito.payloads.blobs import BlobStore, FolderBlobs
from musubito.payloads.object_store import ObjectBlobs


def blobs_at(location: str) -> BlobStore:
    """Return the blobs at a URL of obstore, or in a folder of `FolderBlobs`.

    Raises `MusubitoError` if there is no such place, or if obstore is not installed.
    """
    if "://" not in location:
        if not Path(location).is_dir():
            raise MusubitoError(
                f"--blobs: {clean(location)} is no folder; name one, or give a URL such as s3://bucket/prefix."
            )
        return FolderBlobs(location)
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra, for object stores alone
    except ImportError as error:
        raise MusubitoError("--blobs needs obstore; install it with: pip install 'musubito[objects]'") from error
    try:
        return ObjectBlobs(from_url(location))
    except Exception as error:  # obstore raises many classes, some of them not its own
        # The later lines quote the URL, and even the first one may: a secret in it must not be shown.
        why = "" if re.search(r"[@?]", location) else f" ({(str(error).splitlines() or [''])[0]})"
        raise MusubitoError(
            f"--blobs: no object store can be opened at {clean(_shown(location))}{clean(why)}. Say s3://bucket/prefix, "
            "gs://bucket/prefix, az://container/prefix or file:///folder; credentials and the account come from the "
            "environment."
        ) from error


def _shown(url: str) -> str:
    """Return a URL without its user, its password and its query, which may be secrets."""
    return re.sub(r"[?#].*", "?...", re.sub(r"(?<=://).*@", "...@", url, flags=re.DOTALL), flags=re.DOTALL)


def check_owner(lineage: Lineage, *, named_together: bool) -> None:
    """Raise `MusubitoError` if the place of blobs may belong to another database.

    The check comes before a removal: blobs that no row names are removed, and in another database's place that would be
    all. If no row names a blob there, the blobs may be left over from this database. Otherwise the environment names
    the place of another database than the one that was named by hand. `named_together` is false if the environment
    names the place of blobs, but not the database.
    """
    at_place, own = blobs(lineage), used(lineage)
    others = len(at_place.orphans) + len(at_place.young)
    place, lost = blob_location(lineage), missing(lineage)
    # Equal outputs of two databases have one name. So a blob that is there may be another database's.
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
            "they are its own all the same, give --blobs in place of MUSUBITO_BLOBS."
        )


def not_found(lineage: Lineage, number: int) -> str:
    """Return the sentence that says how many large outputs were not found in the place of blobs.

    The rows of these outputs are gone already.
    """
    place = blob_location(lineage)
    at_place = "" if place is None else f" in {clean(place)}"
    return (
        f"{times(number, 'large output')} not found{at_place}: if large outputs lie elsewhere (ObjectBlobs), they are "
        "still there, and a later 'musubito --blobs URL prune' removes them."
    )
