"""Certified accuracy over radii as a picture, in SVG: two step lines and the area between them that is still open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mip2mcu.certify.certificate import Certificate
from mip2mcu.norms import NORMS

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 30, 50
_DASHES = 'fill="none" stroke="#d95f02" stroke-dasharray="5 3" stroke-width="2"'
_SOLID = 'fill="none" stroke="#1b6ca8" stroke-width="2"'


def as_svg(certificate: Certificate) -> str:
    """The picture as text; the same certificate gives the same bytes."""
    radii = certificate.radii(400)
    last = max(radii[-1], 1)
    count = max(len(certificate.rows), 1)

    def x(radius: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * radius / last

    def y(rows: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - rows / count)

    def steps(rows_at: Callable[[int], int]) -> str:
        return _steps([(x(r), y(rows_at(r))) for r in radii])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(_line(LEFT, y(count * s / 4), WIDTH - RIGHT, y(count * s / 4), "#ddd") for s in range(5)),
        *(_text(LEFT - 8, y(count * s / 4) + 4, f"{25 * s} %", "end") for s in range(5)),
        *(_text(x(last * s / 4), HEIGHT - BOTTOM + 18, f"{last * s / 4:g}", "middle") for s in range(5)),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, NORMS[certificate.norm].axis, "middle"),
        f'<path d="{steps(certificate.unbroken)}" {_DASHES}/>',
        f'<path d="{steps(certificate.certified)}" {_SOLID}/>',
        _text(WIDTH - RIGHT, 18, "certified accuracy (line), not broken by any change found (dashes)", "end"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _steps(points: Sequence[tuple[float, float]]) -> str:
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for x, y in points[1:]:
        path.append(f"H{x:.1f}V{y:.1f}")
    return "".join(path)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
