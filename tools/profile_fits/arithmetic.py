"""The arithmetic of src/cost/cost_model.h, in microseconds, and a minimiser to fit its coefficients."""
import dataclasses
import json
import math


@dataclasses.dataclass
class Model:
    """Parameters by part of one layer, as src/cost/model_shape.h has them."""
    layers: int
    experts: int
    experts_per_token: int
    attention_parameters: float
    router_parameters: float
    expert_parameters: float
    head_parameters: float
    flops_per_pair: float
    kv_bytes: float  # of one token in one layer

    @staticmethod
    def read(path):
        config = json.loads(path.read_text(encoding="utf-8"))
        hidden = config["hidden_size"]
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim", hidden // heads)
        kv = config["num_key_value_heads"] * head_dim
        experts = config.get("num_experts") or config["num_local_experts"]
        intermediate = config.get("moe_intermediate_size") or config["intermediate_size"]
        return Model(
            layers=config["num_hidden_layers"], experts=experts,
            experts_per_token=config["num_experts_per_tok"],
            attention_parameters=hidden * (heads * head_dim + 2 * kv) + heads * head_dim * hidden,
            router_parameters=hidden * experts, expert_parameters=3 * hidden * intermediate,
            head_parameters=hidden * config["vocab_size"], flops_per_pair=4 * heads * head_dim,
            kv_bytes=2 * kv * 2)

    def distinct(self, tokens):
        """Expected distinct experts of uniform choices."""
        return self.experts * (1 - (1 - self.experts_per_token / self.experts) ** tokens)


def roofline(costs, read_bytes, flops):
    reading = read_bytes / costs["stream_gb_per_s"] * 1e-3
    computing = flops / costs["compute_tflop_per_s"] * 1e-6
    return max(reading, computing) + costs["overlap_loss"] * min(reading, computing)


def projections(profile, parameters, rows):
    return roofline(profile["attention"]["projections"], 2 * parameters, 2 * rows * parameters)


def attention_kernel(profile, model, decodes, decode_context, prefill_rows, prefill_context):
    costs = profile["attention"]
    pair = model.flops_per_pair / costs["prefill_tflop_per_s"] * 1e-6
    mixed = costs["mixed_kv_factor"] if prefill_rows else 1.0
    us = (decodes * costs["decode_us"]
          + decode_context * max(model.kv_bytes / costs["kv_gb_per_s"] * 1e-3 * mixed, pair))
    if prefill_rows:
        products = prefill_context * pair
        keys = prefill_context / prefill_rows * costs["prefill_key_us"]
        us += max(products, keys) + costs["prefill_overlap_loss"] * min(products, keys)
    return us


def attention(profile, model, prefill_rows, decodes, decode_context, prefill_context):
    costs = profile["attention"]
    rows = prefill_rows + decodes
    return (costs["layer_us"] + rows * costs["row_us"]
            + projections(profile, model.attention_parameters + model.router_parameters, rows)
            + attention_kernel(profile, model, decodes, decode_context, prefill_rows,
                               prefill_context))


def service(profile, model, rows, distinct):
    costs = profile["experts"]
    padded = rows + distinct * costs["padding_rows_per_expert"]
    read = distinct * model.expert_parameters * costs.get("bytes_per_parameter", 2)
    return (costs["layer_us"] + rows * costs["row_us"] + distinct * costs["expert_us"]
            + roofline(costs["products"], read, 2 * padded * model.expert_parameters))


def step(profile, model, rows, sampled):
    costs = profile["step"]
    head = model.head_parameters
    return (costs["step_us"] + rows * costs["row_us"] + sampled * costs["sampled_us"]
            + (roofline(costs["head"], 2 * head, 2 * sampled * head) if sampled else 0))


def whole_step_ms(profile, model, prefills, decodes, context):
    """One rank: prefills = rows of each prompt, computed whole; decodes at the same context."""
    prefill_rows = sum(prefills)
    pairs = sum(rows * (rows + 1) / 2 for rows in prefills)
    rows = prefill_rows + decodes
    layer = (attention(profile, model, prefill_rows, decodes, decodes * context, pairs)
             + service(profile, model, rows * model.experts_per_token, model.distinct(rows)))
    return (model.layers * layer + step(profile, model, rows, len(prefills) + decodes)) * 1e-3


def get(profile, path):
    for part in path.split("."):
        profile = profile[part]
    return profile


def put(profile, path, value):
    *parts, last = path.split(".")
    for part in parts:
        profile = profile[part]
    profile[last] = value


def rounded(value):
    """Four significant digits: what a fit is worth."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value


def nelder_mead(function, start, scale=0.3, rounds=4000):
    """Nelder and Mead, "A simplex method for function minimization" (1965); deterministic."""
    simplex = [list(start)]
    for i in range(len(start)):
        corner = list(start)
        corner[i] += scale
        simplex.append(corner)
    values = [function(corner) for corner in simplex]
    for _ in range(rounds):
        order = sorted(range(len(simplex)), key=values.__getitem__)
        simplex = [simplex[i] for i in order]
        values = [values[i] for i in order]
        if values[-1] - values[0] < 1e-12:
            break
        centre = [sum(corner[i] for corner in simplex[:-1]) / len(start) for i in range(len(start))]

        def moved(by):
            return [c + by * (w - c) for c, w in zip(centre, simplex[-1])]

        tried = moved(-1.0)
        value = function(tried)
        if value < values[0]:
            further = moved(-2.0)
            further_value = function(further)
            if further_value < value:
                tried, value = further, further_value
        elif value >= values[-2]:
            tried = moved(0.5)
            value = function(tried)
            if value >= values[-1]:
                best = simplex[0]
                simplex = [best] + [[(a + b) / 2 for a, b in zip(best, c)] for c in simplex[1:]]
                values = [values[0]] + [function(corner) for corner in simplex[1:]]
                continue
        simplex[-1], values[-1] = tried, value
    return simplex[min(range(len(values)), key=values.__getitem__)]


def fit(profile, paths, points, predict):
    """Sets the fields `paths` of the profile so that predict(profile, point) is near point["us"].

    Least squares of log(predicted / measured), so that short times count like long ones. Rates and
    times move in logarithms; `overlap_loss` stays in [0, 1].
    """
    def is_loss(path):
        return path.endswith("overlap_loss")

    def apply(x):
        for path, value in zip(paths, x):
            put(profile, path, min(1.0, max(0.0, value)) if is_loss(path) else math.exp(value))

    def error(x):
        apply(x)
        return sum(math.log(predict(profile, point) / point["us"]) ** 2 for point in points)

    x = [get(profile, path) if is_loss(path) else math.log(get(profile, path)) for path in paths]
    for _ in range(6):  # restarts, as a simplex may collapse
        x = nelder_mead(error, x)
    apply(x)
    for path in paths:  # judged as it will be written
        value = rounded(get(profile, path))
        put(profile, path, value if value > 1e-6 else 0.0)


def note(profile, what, origin, paths, points, predict, table=False):
    errors = [abs(predict(profile, point) / point["us"] - 1) * 100 for point in points]
    entry = {"what": what, "from": origin, "points": len(points),
             "mean_error_percent": round(sum(errors) / len(errors), 1),
             "max_error_percent": round(max(errors), 1), "fields": list(paths)}
    if table:
        entry["table"] = [(point["label"], point["us"] * 1e-3, predict(profile, point) * 1e-3)
                          for point in points]
    profile["fitted"].append(entry)
