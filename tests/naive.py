"""A second evaluator of networks, as naive as possible: plain integers and lists, straight from the JSON document.

It shares no code with mip2mcu, so that an error in the one is not an error in the other. One row at a time.
"""

from __future__ import annotations

from itertools import combinations


def quantize(document, raw):
    """Network inputs of one row of raw integers."""
    inputs = []
    for feature, value in zip(document["quantizer"], raw, strict=True):
        coding = feature["coding"]
        if coding["kind"] == "one_hot":
            inputs += [1 if value == i else 0 for i in range(len(coding["categories"]))]
        elif coding["kind"] == "thermometer":
            inputs += [1 if value >= threshold else 0 for threshold in coding["thresholds"]]
        else:
            inside = coding["low"] if value < coding["low"] else coding["high"] if value > coding["high"] else value
            t = (inside - coding["low"]) // 2 ** coding["pre"]
            half = 2 ** (coding["shift"] - 1) if coding["shift"] else 0
            inputs.append((t * coding["mult"] + half) // 2 ** coding["shift"])
    return inputs


def sums(document, inputs):
    """The last layer's sums of one row of inputs."""
    tensor = list(inputs)
    if len(document["input_shape"]) == 3:
        tensor = _fold(tensor, document["input_shape"])
    for layer in document["layers"]:
        tensor = LAYERS[layer["kind"]](layer, tensor)
    return tensor


def scores(document, totals):
    """Scores of the decision rule."""
    if document["decision"]["rule"] != "vote":
        return totals
    votes = [0] * len(document["classes"])
    for member, own in _members(document, totals):
        votes[_choice(member, own)] += 1
    return votes


def predict(document, totals):
    """Class index, or the number of classes where the rule leaves the row unclassified."""
    rule = document["decision"]
    if rule["rule"] == "sign":
        return 0 if totals[0] >= 0 else 1
    if rule["rule"] == "argmax":
        return totals.index(max(totals))
    votes = scores(document, totals)
    tied = tuple(c for c in range(len(votes)) if votes[c] == max(votes))
    if len(tied) == 1:
        return tied[0]
    for member, own in _members(document, totals):
        if member == tied:
            return _choice(member, own)
    if not rule["by_margin"]:
        return len(votes)
    strongest = None
    for c in tied:
        strength = sum(_strength(member, own, c) for member, own in _members(document, totals) if c in member)
        if strongest is None or strength > strongest[0]:
            strongest = (strength, c)
    return strongest[1]


def margin(document, totals):
    """First minus second score; the distance from zero of a single sum."""
    if document["decision"]["rule"] == "sign":
        return abs(totals[0])
    ranked = sorted(scores(document, totals), reverse=True)
    return ranked[0] - ranked[1] if len(ranked) > 1 else 0


# ---- votes ---------------------------------------------------------------------------------------------------------


def _members(document, totals):
    """Pairs (classes of the member, its sums); a pair of classes has one sum."""
    size = document["decision"]["subset_size"]
    each = 1 if size == 2 else size
    subsets = list(combinations(range(len(document["classes"])), size))
    assert len(totals) == each * len(subsets)
    return [(subset, totals[m * each : (m + 1) * each]) for m, subset in enumerate(subsets)]


def _choice(member, own):
    if len(own) == 1:
        return member[0] if own[0] >= 0 else member[1]
    best = 0
    for position in range(1, len(own)):
        if own[position] > own[best]:
            best = position
    return member[best]


def _strength(member, own, c):
    if len(own) == 1:
        return own[0] if c == member[0] else -own[0]
    position = member.index(c)
    return own[position] - max(own[:position] + own[position + 1 :])


# ---- layers --------------------------------------------------------------------------------------------------------


def _dense(layer, tensor):
    flat = _flat(tensor)
    outputs = []
    for j, weights in enumerate(layer["weights"]):
        total = layer["bias"][j]
        for weight, value in zip(weights, flat, strict=True):
            total += weight * value
        outputs.append(_activate(layer, j, total))
    return outputs


def _conv2d(layer, tensor):
    top, left, bottom, right = layer["padding"]
    height, width = len(tensor[0]), len(tensor[0][0])
    down, across = layer["stride"]
    rows, columns = len(layer["weights"][0][0]), len(layer["weights"][0][0][0])

    def pixel(channel, r, q):
        inside = 0 <= r < height and 0 <= q < width
        return tensor[channel][r][q] if inside else layer["padding_value"]

    outputs = []
    for j, kernel in enumerate(layer["weights"]):
        image = []
        for r in range(-top, height + bottom - rows + 1, down):
            line = []
            for q in range(-left, width + right - columns + 1, across):
                total = layer["bias"][j]
                for channel in range(len(tensor)):
                    for i in range(rows):
                        for k in range(columns):
                            total += kernel[channel][i][k] * pixel(channel, r + i, q + k)
                line.append(_activate(layer, j, total))
            image.append(line)
        outputs.append(image)
    return outputs


def _pool(layer, tensor, combine):
    (rows, columns), (down, across) = layer["window"], layer["stride"]
    return [
        [
            [
                combine([channel[r + i][q + k] for i in range(rows) for k in range(columns)])
                for q in range(0, len(channel[0]) - columns + 1, across)
            ]
            for r in range(0, len(channel) - rows + 1, down)
        ]
        for channel in tensor
    ]


def _max_pool(layer, tensor):
    return _pool(layer, tensor, max)


def _average_pool(layer, tensor):
    return _pool(layer, tensor, lambda values: (sum(values) + len(values) // 2) // len(values))


def _sum_pool(layer, tensor):
    return _pool(layer, tensor, sum)


def _near(channel, r, q):
    """The value at (r, q), or the nearest one inside."""
    r, q = min(max(r, 0), len(channel) - 1), min(max(q, 0), len(channel[0]) - 1)
    return channel[r][q]


def _smooth(layer, tensor):
    down = {-1: 1, 0: 2, 1: 1} if len(tensor[0]) > 1 else {0: 1}
    across = {-1: 1, 0: 2, 1: 1}
    whole = sum(down.values()) * sum(across.values())

    def value(channel, r, q):
        total = sum(a * b * _near(channel, r + i, q + k) for i, a in down.items() for k, b in across.items())
        return (total + whole // 2) // whole

    return [[[value(channel, r, q) for q in range(len(channel[0]))] for r in range(len(channel))] for channel in tensor]


def _edges(layer, tensor):
    step, height, width = layer["step"], len(tensor[0]), len(tensor[0][0])
    ways = [(0, 1), (0, -1)]
    if height > 1:
        ways += [(1, 1), (-1, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)]

    def cells(extent):
        """The values of each window along a side."""
        count = max(1, (extent + step // 2) // step)
        starts = [n * step - step // 2 for n in range(count)]
        return [[x for x in range(start, start + 2 * step) if 0 <= x < extent] for start in starts]

    outputs = []
    for channel in tensor:
        for i, k in ways:
            image = []
            for rows in cells(height) if height > 1 else [[0]]:
                line = []
                for columns in cells(width):
                    rises = (_near(channel, r + i, q + k) - _near(channel, r - i, q - k) for r in rows for q in columns)
                    line.append(min(255, sum(max(0, rise) for rise in rises) // 2 ** layer["shift"]))
                image.append(line)
            outputs.append(image)
    return outputs


def _activate(layer, j, total):
    if layer["activation"] == "sign":
        return 1 if total >= 0 else -1
    if layer["activation"] == "relu":
        pre, mult, shift = (layer["requantisation"][name][j] for name in ("pre", "mult", "shift"))
        t = max(total, 0) // 2**pre
        return min(255, (t * mult + 2 ** (shift - 1)) // 2**shift)
    return total


def _fold(flat, shape):
    channels, rows, columns = shape
    values = iter(flat)
    return [[[next(values) for _ in range(columns)] for _ in range(rows)] for _ in range(channels)]


def _flat(tensor):
    return [value for part in tensor for value in _flat(part)] if isinstance(tensor, list) else [tensor]


LAYERS = {
    "dense": _dense,
    "conv2d": _conv2d,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "sum_pool": _sum_pool,
    "smooth": _smooth,
    "edges": _edges,
}
