"""What file system a folder lies on, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""File systems of other machines: locks and syncs do not hold there as SQLite needs them."""

MOUNTS = Path("/proc/mounts")


def network_kind(folder: Path) -> str | None:
    """Return the kind of network file system that a folder lies on, `None` for a local one, or where nothing tells."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place = folder.resolve()
    mounts = [(Path(fields[1]), fields[2]) for fields in map(str.split, lines) if len(fields) > 2]
    around = [(len(path.parts), kind) for path, kind in mounts if place.is_relative_to(path)]
    kind = max(around, default=(0, ""), key=lambda found: found[0])[1]
    return kind if kind in NETWORK else None
