"""Numbers with their units, for people: three digits and a decimal prefix."""

from __future__ import annotations

MICRO = "\N{MICRO SIGN}"


def quantity(value: float, unit: str) -> str:
    """A value with three digits and a decimal prefix: 1.23 GFLOP."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{digits(value)} {prefix}{unit}"
        value /= 1000
    return f"{digits(value)} P{unit}"


def bytes_of(size: float) -> str:
    """A number of bytes: 33.6 MB."""
    return quantity(size, "B")


def duration(seconds: float) -> str:
    """Seconds with three digits, in ns, µs, ms or s."""
    scale, unit = unit_of(seconds)
    return f"{digits(seconds * scale)} {unit}"


def durations(*seconds: float) -> tuple[str, ...]:
    """Several durations in one unit, that of the longest, so that a reader can compare them."""
    scale, unit = unit_of(max(seconds, key=abs, default=0.0))
    return tuple(f"{digits(one * scale)} {unit}" for one in seconds)


def unit_of(seconds: float) -> tuple[float, str]:
    """The unit for a duration: how many of it are a second, and its name."""
    for scale, unit in ((1e9, "ns"), (1e6, f"{MICRO}s"), (1e3, "ms")):
        if abs(seconds) * scale < 999.5:
            return scale, unit
    return 1.0, "s"


def digits(value: float) -> str:
    """A value with three digits; numbers below one with as many decimals as two digits need."""
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    size = abs(value)
    if size >= 1:
        return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def plural(count: int, noun: str, many: str = "") -> str:
    """A count with its noun: 1 step, 2,048 steps."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
