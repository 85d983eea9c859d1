"""What certification found: row by row, and as certified accuracy over radii."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mip2mcu.errors import UsageError


def check_radii(radii: Sequence[int], limit: int | None) -> None:
    """Raise `UsageError` unless ``radii`` ascend from 0 or more and lie within ``limit``."""
    shown = ",".join(str(radius) for radius in radii)
    if min(radii, default=0) < 0 or list(radii) != sorted(set(radii)):
        raise UsageError(f"radii {shown} must ascend from 0 or more, such as 0,1,2,5")
    if limit is not None and radii and radii[-1] > limit:
        raise UsageError(
            f"the radius {radii[-1]} lies beyond the limit {limit}: nothing is searched there, drop it or raise the "
            "limit"
        )


@dataclass(frozen=True)
class RowCertificate:
    """What is known about one row.

    row        its index in the data
    label      its class index
    predicted  the network's class index of the row as it is
    safe       no change of this size or less changes the class, proved; None: no change at all does
    broken     size of the smallest change found that changes the class, checked with the network; None: none found
    witness    the changed raw integers (features,), None without one
    """

    row: int
    label: int
    predicted: int
    safe: int | None
    broken: int | None
    witness: tuple[int, ...] | None

    @property
    def right(self) -> bool:
        """The network is right about the row as it is."""
        return self.label == self.predicted

    @property
    def exact(self) -> bool:
        """The smallest change is known: what is safe and what breaks meet."""
        return self.safe is None if self.broken is None else self.safe == self.broken - 1

    def safe_at(self, radius: int) -> bool:
        """Right, and proved to stay so under every change of at most ``radius``."""
        return self.right and (self.safe is None or self.safe >= radius)

    def unbroken_at(self, radius: int) -> bool:
        """Right, and no change of at most ``radius`` is known that changes it."""
        return self.right and (self.broken is None or self.broken > radius)


@dataclass(frozen=True)
class Certificate:
    """The certificate of a network on some rows.

    model_sha256  of the network
    norm          "linf", "l1" or "l0", over raw integers
    limit         largest size that was asked about; None: no limit
    rows          one entry a row
    """

    model_sha256: str
    norm: str
    limit: int | None
    rows: tuple[RowCertificate, ...]

    def certified(self, radius: int) -> int:
        """Rows that are right and proved to stay so under every change of at most ``radius``."""
        return sum(row.safe_at(radius) for row in self.rows)

    def unbroken(self, radius: int) -> int:
        """Rows that are right and for which no change of at most ``radius`` is known: an upper bound of `certified`."""
        return sum(row.unbroken_at(radius) for row in self.rows)

    @property
    def exact(self) -> int:
        """Right rows whose smallest change is known, or that are safe up to the limit."""
        return sum(row.right and (row.exact or self._safe_to_limit(row)) for row in self.rows)

    def _safe_to_limit(self, row: RowCertificate) -> bool:
        return self.limit is not None and (row.safe is None or row.safe >= self.limit)

    @property
    def right(self) -> int:
        """Rows that the network is right about as they are."""
        return sum(row.right for row in self.rows)

    def radii(self, count: int = 12) -> tuple[int, ...]:
        """0 and at most ``count`` radii at which certified accuracy changes, evenly chosen, up to the last."""
        known = {r.broken for r in self.rows if r.right and r.broken is not None}
        known |= {r.safe for r in self.rows if r.right and r.safe is not None}
        if self.limit is not None:
            known = {r for r in known if r <= self.limit} | {self.limit}
        steps = sorted(known - {0})
        if len(steps) > count:
            steps = [steps[(k * (len(steps) - 1)) // (count - 1)] for k in range(count)]
        return (0, *steps)

    def as_dict(self, radii: Sequence[int] | None = None) -> dict[str, Any]:
        """For JSON; the same certificate gives the same text. Raises `UsageError` for radii out of order or limit."""
        shown = self.radii() if radii is None else tuple(radii)
        check_radii(shown, self.limit)
        return {
            "model_sha256": self.model_sha256,
            "norm": self.norm,
            "limit": self.limit,
            "rows": len(self.rows),
            "right": self.right,
            "exact": self.exact,
            "radii": [
                {"radius": r, "certified": self.certified(r), "unbroken": self.unbroken(r)} for r in shown
            ],
            "certificates": [asdict(row) for row in self.rows],
        }
