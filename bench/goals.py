"""What the rows are held to: a ratio to a contender, or a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.measure import Sample

__all__ = ["Bytes", "Count", "Difference", "Goal", "Ratio", "Seconds", "duration", "size"]


UNITS: Final = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of `subject`, as a multiple of the median of `against`, is at most `most`."""

    most: float
    against: str
    subject: str = "musubito"

    def value(self, samples: dict[str, Sample]) -> float:
        """Return the measured value."""
        return samples[self.subject].median / samples[self.against].median

    def __str__(self) -> str:
        return f"≤ {self.most:g} × {self.against}"


@dataclass(frozen=True, slots=True)
class Seconds:
    """The median of `subject` is at most `most` seconds."""

    most: float
    subject: str = "musubito"

    def value(self, samples: dict[str, Sample]) -> float:
        """Return the measured value."""
        return samples[self.subject].median

    def __str__(self) -> str:
        return f"≤ {duration(self.most)}"


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of `subject` is at most `most` seconds above that of `over`; means, as work is put off."""

    most: float
    over: str
    subject: str = "musubito"

    def value(self, samples: dict[str, Sample]) -> float:
        """Return the measured value."""
        return samples[self.subject].mean - samples[self.over].mean

    def __str__(self) -> str:
        return f"≤ {duration(self.most)} above {self.over}"


@dataclass(frozen=True, slots=True)
class Count:
    """`subject` does at most `most` of what is counted."""

    most: float
    subject: str = "musubito"

    def value(self, samples: dict[str, Sample]) -> float:
        """Return the count."""
        return samples[self.subject].median

    def __str__(self) -> str:
        return f"≤ {self.shown(self.most)}"

    @staticmethod
    def shown(value: float) -> str:
        """Return a number of things as text."""
        return f"{value:g}"


@dataclass(frozen=True, slots=True)
class Bytes:
    """`subject` takes at most `most` bytes."""

    most: float
    subject: str = "musubito"

    def value(self, samples: dict[str, Sample]) -> float:
        """Return the measured value."""
        return samples[self.subject].median

    def __str__(self) -> str:
        return f"≤ {size(self.most)}"


Goal = Ratio | Seconds | Difference | Count | Bytes


def size(number: float) -> str:
    """Bytes in thousands or millions."""
    return f"{number / 1e6:.2f} MB" if number >= 1e6 else f"{number / 1e3:.0f} KB"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    unit, size = next((each for each in UNITS if abs(seconds) >= each[1]), UNITS[-1])
    value = seconds / size
    return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"
