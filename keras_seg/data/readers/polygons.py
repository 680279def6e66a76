"""Polygons as text (WKT), and the pixels inside of them."""

import json
import re

import numpy as np


def parse_wkt(text):
    """The polygons of a WKT POLYGON or MULTIPOLYGON: a list of lists of rings, float64 (n, 2).

    The first ring of a polygon is its outline, the others are holes.

    Raises:
        ValueError: if `text` is neither of both.
    """
    match = re.fullmatch(r"\s*(MULTIPOLYGON|POLYGON)\s*(EMPTY|\(.*\))\s*", text, re.DOTALL | re.I)
    if not match:
        raise ValueError(f"no POLYGON or MULTIPOLYGON: {text!r:.60}")
    kind, body = match.groups()
    if body.upper() == "EMPTY":
        return []
    brackets = re.sub(r"([^\s(),]+)\s+([^\s(),]+)", r"[\1,\2]", body)
    try:
        value = json.loads(brackets.replace("(", "[").replace(")", "]"))
        value = value if kind.upper() == "MULTIPOLYGON" else [value]
        polygons = [[np.array(ring, "float64") for ring in polygon] for polygon in value]
    except (TypeError, ValueError) as error:
        raise ValueError(f"damaged polygon ({error}): {text!r:.60}") from error
    for ring in (ring for polygon in polygons for ring in polygon):
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
            raise ValueError(f"a ring needs 3 points (x y) or more: {text!r:.60}")
    return polygons


def fill_polygons(polygons, size):
    """The pixels whose centres lie inside of a polygon and not in its holes: bool (H, W).

    Args:
        polygons: as `parse_wkt` gives them, x and y in pixels; pixel (row r, column c) has its
            centre at (c + 0.5, r + 0.5). Polygons may overlap.
        size: (H, W).
    """
    height, width = size
    mask = np.zeros(size, bool)
    for rings in polygons:
        points = np.concatenate(rings)
        left, top = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int)
        if left < right and top < bottom:
            part = mask[top:bottom, left:right]
            part |= _fill([ring - (left, top) for ring in rings], part.shape)
    return mask


def _fill(rings, size):
    """Even-odd rule: each edge flips all pixels to its right, and a sum along the row tells."""
    height, width = size
    flips = np.zeros((height, width + 1), "uint8")
    for ring in rings:
        x0, y0 = ring.T
        x1, y1 = np.roll(ring, -1, axis=0).T
        first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(int)
        last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(int)
        count = last - first  # of rows whose centre the edge crosses
        edge = np.repeat(np.arange(len(ring)), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (x1 - x0)[edge] / (y1 - y0)[edge]
        x = x0[edge] + (row + 0.5 - y0[edge]) * slope
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
        np.bitwise_xor.at(flips, (row, column), 1)
    return np.bitwise_xor.accumulate(flips, axis=1)[:, :width].astype(bool)
