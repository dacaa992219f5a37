"""Empty the log of a database file, and return the room that nothing needs. See `store.protocol.Compactable`."""

from __future__ import annotations

from musubito.store.sqlite.connection import Connection


def empty_log(writer: Connection) -> bool:
    """Bring the whole log into the database and empty it. Return False if a reader was in the way."""
    # Others can write during the first one, which leaves little to the second one.
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    busy: int = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def vacuum(writer: Connection) -> None:
    """Write the database anew, so that it holds only live data and takes no more room than that needs.

    Until the end, it takes as much room again, and nobody can write.
    """
    writer.execute("VACUUM")


def used_and_free(reader: Connection) -> tuple[int, int]:
    """Return the number of bytes of the file that hold something, and the number of those that hold nothing."""
    pages, free, size = (
        reader.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size, free * size


def give_back(writer: Connection, most: int) -> int:
    """Return up to `most` bytes of free room to the disk; return the number of bytes."""
    size: int = writer.execute("PRAGMA page_size").fetchone()[0]
    before: int = writer.execute("PRAGMA freelist_count").fetchone()[0]
    # Each step of this statement frees one page, and `execute` makes only the first step if the rows have no columns.
    writer.connection.executescript(f"PRAGMA incremental_vacuum({max(1, most // size)})")
    after: int = writer.execute("PRAGMA freelist_count").fetchone()[0]
    return max(0, before - after) * size
