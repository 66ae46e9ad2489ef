"""The shipped profiles: what is assumed of each machine, what is fitted to what."""
import copy

from . import arithmetic as cost

RTX = "kernel timings of Qwen3-30B-A3B under vLLM 0.19 on an RTX PRO 6000 (LLMServingSim, 5daddb21)"
H100 = "layer timings of Mixtral-8x7B on an H100 (LLMServingSim, 5daddb21)"
VLLM = "steps of vLLM 0.23 with Qwen3-30B-A3B in bf16 on one H200"

# vLLM 0.23, Qwen3-30B-A3B, one H200, ms a step: (label, prompts computed whole, decodes, context).
VLLM_STEPS = [
    ("decode, batch 1, context 1 024", [], 1, 1024, 4.3),
    ("decode, batch 8, context 1 024", [], 8, 1024, 9.4),
    ("decode, batch 32, context 1 024", [], 32, 1024, 16.4),
    ("decode, batch 128, context 1 024", [], 128, 1024, 21.3),
    ("prefill of 512 tokens", [512], 0, 0, 18.0),
    ("prefill of 2 048 tokens", [2048], 0, 0, 39.0),
    ("prefill of 8 192 tokens", [8192], 0, 0, 154.0),
    # 16 x 2 048 at 65 000 tokens a second: four steps of 8 192.
    ("prefill of 4 x 2 048 tokens", [2048] * 4, 0, 0, 8192 / 65.0),
]


def roofline(stream, compute, loss):
    return {"stream_gb_per_s": stream, "compute_tflop_per_s": compute, "overlap_loss": loss}


def h200():
    return {
        "version": 1, "name": "h200",
        "description": "H200 141 GB (NVLink pair), kernels at the rates that libraries reach on it",
        "memory_gb": 141.0,
        "attention": {
            "layer_us": 5.0, "row_us": 0.008, "decode_us": 0.02, "kv_gb_per_s": 3900.0,
            "mixed_kv_factor": 1.0, "prefill_tflop_per_s": 613.0, "prefill_key_us": 0.0,
            "prefill_overlap_loss": 0.0, "projections": roofline(4300.0, 790.0, 0.2)},
        "experts": {
            "layer_us": 5.0, "row_us": 0.002, "expert_us": 0.0, "padding_rows_per_expert": 32.0,
            "products": roofline(3300.0, 700.0, 0.2)},
        "step": {"step_us": 200.0, "row_us": 0.01, "sampled_us": 0.5,
                 "head": roofline(4300.0, 790.0, 0.2)},
        "same_node": {"latency_us": 2.5, "gb_per_s": 397.0, "move_gb_per_s": 397.0},
        "other_node": {"latency_us": 10.0, "gb_per_s": 45.0, "move_gb_per_s": 45.0},
        "fitted": [], "assumed": []}


def fit_h200(qwen):
    """Two published rates of the grouped product fix stream and compute; the others are taken."""
    profile = h200()
    profile["experts"]["row_us"] = 0.0  # the products alone were timed
    profile["experts"]["layer_us"] = 0.0
    points = []
    for tokens, rate in ((1024, None), (32768, 668e12)):
        flops = 2 * tokens * qwen.experts_per_token * qwen.expert_parameters
        us = (flops / rate if rate else qwen.experts * qwen.expert_parameters * 2 / 3.3e12) * 1e6
        points.append({"tokens": tokens, "us": us, "label": f"grouped product, {tokens} tokens"})

    def predict(current, point):
        return cost.service(current, qwen, point["tokens"] * qwen.experts_per_token,
                            qwen.distinct(point["tokens"]))

    paths = ["experts.products.stream_gb_per_s", "experts.products.compute_tflop_per_s"]
    cost.fit(profile, paths, points, predict)
    cost.note(profile, "experts: two rates of PyTorch's grouped product on Qwen3-30B-A3B's experts",
              "the rates as published: 3.3 TB/s at 1 024 tokens, 668 TFLOP/s at 32 768", paths, points, predict, table=True)
    profile["experts"]["row_us"] = 0.002
    profile["experts"]["layer_us"] = 5.0
    profile["assumed"] = [
        "Taken as measured on a pair of H200: prefill attention 613 TFLOP/s (8 192 tokens, causal), "
        "bf16 products 790 TFLOP/s, memory 4.3 TB/s, NVLink 397 GB/s and 2.5 us.",
        "Not measured: 5 us a layer for attention and 5 us for experts beyond their reading and "
        "computing (graphs captured, fused kernels), 0.2 ms a step; tiles of 64 rows, half of one "
        "empty an expert; a fifth of the shorter of reading and computing not hidden.",
        "Not measured: 3.9 TB/s where decodes read keys and values; row, decode and sampling times, "
        "which are those of the RTX PRO 6000 scaled by its memory rate.",
        "Between nodes: a 400 Gbit/s link at 90 %, 10 us.",
    ]
    return profile


def fit_h200_vllm(qwen, rtx):
    profile = copy.deepcopy(fit_h200(qwen))
    profile["name"] = "h200-vllm"
    profile["description"] = "H200 141 GB as vLLM 0.23 used it with Qwen3-30B-A3B in bf16"
    profile["fitted"] = []
    points = [{"label": label, "step": work, "us": ms * 1e3} for label, *work, ms in VLLM_STEPS]

    def predict(current, point):
        return cost.whole_step_ms(current, qwen, *point["step"]) * 1e3

    paths = ["attention.layer_us", "experts.products.stream_gb_per_s",
             "experts.products.compute_tflop_per_s", "experts.products.overlap_loss"]
    left_out = []  # each step as the other seven predict it
    for number, point in enumerate(points):
        others = copy.deepcopy(profile)
        cost.fit(others, paths, points[:number] + points[number + 1:], predict)
        left_out.append((point["label"], point["us"] * 1e-3, predict(others, point) * 1e-3))
    cost.fit(profile, paths, points, predict)
    cost.note(profile, "whole steps: overhead a layer, and the experts' stream, compute and overlap",
              VLLM, paths, points, predict, table=True)
    profile["left_out"] = left_out
    profile["attention"]["mixed_kv_factor"] = rtx["attention"]["mixed_kv_factor"]
    profile["assumed"] = [
        "All that is not fitted is the profile h200's; 5 us a layer of the overhead stand with the "
        "experts, the fitted rest with attention, as whole steps do not tell them apart.",
        "No measured step has prefill beside decodes. That decodes read their context 3.8 times slower "
        "there is the profile rtxpro6000's, of vLLM 0.19's attention kernel on another card.",
        "Choices of experts are uniform: the measured steps do not say how many were touched.",
        "1 ms of a step is not told from 21 us of a layer: the fit puts all of it into layers.",
    ]
    return profile


def rtx_attention_points(rows):
    """Each kind alone, and every 40th of the mixed ones: prefill beside decodes."""
    points = []
    for number, row in enumerate(rows):
        chunk, prefix, decodes, context = (
            int(row[key]) for key in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"))
        if chunk > 0 and decodes > 0 and number % 40:
            continue
        points.append({"rows": chunk, "decodes": decodes, "decode_context": decodes * context,
                       "prefill_context": chunk * prefix + chunk * (chunk + 1) / 2,
                       "us": float(row["time_us"])})
    return points


def fit_rtx_attention(profile, qwen, traces):
    points = rtx_attention_points(traces["attention"])
    scratch = copy.deepcopy(profile)

    def kernel(current, point):
        return current["attention"]["layer_us"] + cost.attention_kernel(
            current, qwen, point["decodes"], point["decode_context"], point["rows"],
            point["prefill_context"])

    paths = ["attention.layer_us", "attention.decode_us", "attention.kv_gb_per_s",
             "attention.mixed_kv_factor", "attention.prefill_tflop_per_s",
             "attention.prefill_key_us", "attention.prefill_overlap_loss"]
    cost.fit(scratch, paths, points[::7], kernel)
    for path in paths[1:]:
        cost.put(profile, path, cost.get(scratch, path))
    cost.note(scratch, "attention: time against decodes, their context, and prefill pairs", RTX,
              paths, points, kernel)
    profile["fitted"].append(scratch["fitted"][-1])
    return scratch["attention"]["layer_us"]


def fit_rtx_dense(profile, qwen, traces):
    """Norms, rotary embedding and projections by tokens; returns the fixed part of a layer."""
    times = {}
    for row in traces["dense"]:
        times.setdefault(int(row["tokens"]), {})[row["layer"]] = float(row["time_us"])
    tokens = sorted(times)
    norms = [{"tokens": n, "us": 2 * times[n]["layernorm"] + times[n]["qk_norm"]
              + times[n]["rotary_emb"]} for n in tokens]

    def norm(current, point):
        costs = current["attention"]
        return costs["layer_us"] + point["tokens"] * costs["row_us"]

    paths = ["attention.layer_us", "attention.row_us"]
    cost.fit(profile, paths, norms, norm)
    cost.note(profile, "norms and rotary embedding: time against tokens", RTX, paths, norms, norm)

    # Weights of one layer stay in the 128 MB cache while it is timed over and over; in a model of
    # 48 layers they do not. So reading is fitted with a rate of its own, which is not kept.
    products = [{"tokens": n, "us": times[n]["qkv_proj"] + times[n]["o_proj"]} for n in tokens]

    def product(current, point):
        return cost.projections(current, qwen.attention_parameters, point["tokens"])

    kept = profile["attention"]["projections"]["stream_gb_per_s"]
    paths = ["attention.projections.compute_tflop_per_s", "attention.projections.overlap_loss"]
    cost.fit(profile, paths + ["attention.projections.stream_gb_per_s"], products, product)
    cost.note(profile, "projections: time against tokens", RTX, paths, products, product)
    profile["attention"]["projections"]["stream_gb_per_s"] = kept
    return profile["attention"]["layer_us"]


def fit_rtx(qwen, traces):
    profile = copy.deepcopy(h200())
    profile["name"] = "rtxpro6000"
    profile["description"] = "RTX PRO 6000 Blackwell Server Edition 96 GB, kernels of vLLM 0.19"
    profile["memory_gb"] = 96.0
    for roof in (profile["experts"]["products"], profile["attention"]["projections"],
                 profile["step"]["head"]):
        roof.update(stream_gb_per_s=1500.0, compute_tflop_per_s=280.0)
    profile["attention"].update(kv_gb_per_s=1400.0, prefill_tflop_per_s=250.0, mixed_kv_factor=2.5,
                                prefill_key_us=0.02, prefill_overlap_loss=0.4)
    # Eight experts, 75 MB, stay in the cache while they are timed over and over: left out.
    points = [{"rows": int(row["tokens"]) * qwen.experts_per_token,
               "distinct": int(row["activated_experts"]), "us": float(row["time_us"])}
              for row in traces["moe"] if int(row["activated_experts"]) > 8]

    def experts(current, point):
        return cost.service(current, qwen, point["rows"], point["distinct"])

    paths = ["experts.layer_us", "experts.products.stream_gb_per_s",
             "experts.products.compute_tflop_per_s", "experts.products.overlap_loss",
             "experts.padding_rows_per_expert"]
    profile["experts"]["row_us"] = 0.0
    cost.fit(profile, paths, points, experts)
    cost.note(profile, "experts: time against rows and distinct experts", RTX, paths, points, experts)
    stream = profile["experts"]["products"]["stream_gb_per_s"]
    profile["attention"]["projections"]["stream_gb_per_s"] = stream

    kernel_us = fit_rtx_attention(profile, qwen, traces)
    dense_us = fit_rtx_dense(profile, qwen, traces)
    profile["attention"]["layer_us"] = kernel_us + dense_us

    head = {}
    for row in traces["per_sequence"]:
        head.setdefault(int(row["sequences"]), {})[row["layer"]] = float(row["time_us"])
    points = [{"sampled": n, "us": t["lm_head"] + t["sampler"]} for n, t in sorted(head.items())]

    def last(current, point):
        return cost.step(current, qwen, 0, point["sampled"]) - current["step"]["step_us"]

    paths = ["step.sampled_us", "step.head.stream_gb_per_s"]
    cost.fit(profile, paths, points, last)
    cost.note(profile, "head and sampler: time against sequences", RTX, paths, points, last)
    profile["same_node"] = {"latency_us": 5.0, "gb_per_s": 50.0, "move_gb_per_s": 50.0}
    profile["assumed"] = [
        "Kernels were timed in eager mode, alone: nothing between them is in the times. 0.3 ms a step "
        "for scheduling and launch is an assumption.",
        "Runs of 8 experts were left out of the fit: 75 MB of weights stay in the cache, too.",
        "Projections read at the experts' rate: one layer's own, timed over and over, stay in the "
        "128 MB cache.",
        "The card has no NVLink: PCIe 5.0 x16 at 50 GB/s and 5 us between cards of a node, assumed; "
        "between nodes as h200.",
        "The router is in none of the timings; it is counted with the projections.",
    ]
    profile["step"]["step_us"] = 300.0
    return profile


def fit_h100(mixtral, rows):
    profile = copy.deepcopy(h200())
    profile["name"] = "h100"
    profile["description"] = "H100 80 GB SXM, products at the rates that cuBLAS reaches on it"
    profile["memory_gb"] = 80.0
    times = {}
    for row in rows:
        times.setdefault(int(row["input"]), {})[row["layer_name"]] = int(row["latency(ns)"]) * 1e-3
    tokens = sorted(n for n in times if n & (n - 1) == 0 or n % 64 == 0)

    def points(layers):
        return [{"tokens": n, "us": sum(times[n][layer] for layer in layers)} for n in tokens]

    profile["experts"].update(layer_us=1e-3, row_us=0.0, padding_rows_per_expert=0.0)
    expert_points = points(("expert.w1", "expert.w3", "expert.w2"))

    def expert(current, point):
        return cost.service(current, mixtral, point["tokens"], 1)

    paths = ["experts.products.stream_gb_per_s", "experts.products.compute_tflop_per_s",
             "experts.products.overlap_loss"]
    cost.fit(profile, paths, expert_points, expert)
    cost.note(profile, "experts: the three products of one expert against rows", H100, paths,
              expert_points, expert)

    projection_points = points(("q_proj", "k_proj", "v_proj", "o_proj"))

    def project(current, point):
        return cost.projections(current, mixtral.attention_parameters, point["tokens"])

    paths = [path.replace("experts.products", "attention.projections") for path in paths]
    profile["attention"]["projections"] = roofline(2000.0, 600.0, 0.2)
    cost.fit(profile, paths, projection_points, project)
    cost.note(profile, "projections against rows", H100, paths, projection_points, project)

    head_points = points(("lm_head",))
    head_points = [point for point in head_points if point["tokens"] <= 256]

    def head(current, point):
        return cost.roofline(current["step"]["head"], 2 * mixtral.head_parameters,
                             2 * point["tokens"] * mixtral.head_parameters)

    paths = ["step.head.stream_gb_per_s", "step.head.compute_tflop_per_s"]
    profile["step"]["head"] = roofline(2900.0, 600.0, 0.2)
    cost.fit(profile, paths, head_points, head)
    cost.note(profile, "head against up to 256 rows", H100, paths, head_points, head)
    profile["experts"].update(layer_us=5.0, row_us=0.002, padding_rows_per_expert=32.0)
    profile["attention"].update(kv_gb_per_s=2700.0)
    profile["assumed"] = [
        "One expert was timed alone: that a grouped product over several reads and computes at the "
        "same rates is an assumption, and so are tiles of 64 rows, half of one empty an expert.",
        "Norms, rotary embedding and router were timed as unfused PyTorch, which no server runs: their "
        "times, launch and sampling are the profile h200's. Attention kernels were not timed: 613 "
        "TFLOP/s as on the H200, keys and values at 2.7 TB/s.",
        "NVLink and the link between nodes as h200.",
    ]
    return profile


def a100():
    """The datasheet, times what fraction of theirs the H200's kernels reach."""
    profile = copy.deepcopy(h200())
    profile["name"] = "a100-80gb"
    profile["description"] = "A100 80 GB SXM, from its datasheet: 2.0 TB/s, 312 TFLOP/s in bf16"
    profile["memory_gb"] = 80.0
    stream, compute = 2000.0, 312.0
    profile["experts"]["products"] = roofline(stream * 3300 / 4800, compute * 668 / 989, 0.2)
    profile["attention"]["projections"] = roofline(stream * 4300 / 4800, compute * 790 / 989, 0.2)
    profile["attention"].update(kv_gb_per_s=stream * 3900 / 4800,
                                prefill_tflop_per_s=compute * 613 / 989)
    profile["step"]["head"] = dict(profile["attention"]["projections"])
    profile["same_node"] = {"latency_us": 4.0, "gb_per_s": 240.0, "move_gb_per_s": 240.0}
    profile["other_node"] = {"latency_us": 10.0, "gb_per_s": 22.5, "move_gb_per_s": 22.5}
    profile["assumed"] = [
        "Nothing was measured. Kernels reach the fractions of the datasheet that they reach on an "
        "H200 (4.8 TB/s, 989 TFLOP/s): 69 % and 68 % for experts, 90 % and 80 % for other products, "
        "81 % where decodes read keys and values, 62 % for prefill attention.",
        "Launch, row and sampling times are the profile h200's.",
        "NVLink at 80 % of 300 GB/s a direction and 4 us; between nodes a 200 Gbit/s link at 90 %.",
    ]
    return profile


def a100_mixtral(mixtral):
    profile = a100()
    profile["name"] = "a100-mixtral-4bit-hf"
    profile["description"] = ("A100 80 GB running Mixtral-8x7B in 4 bits (22.93 GB) under Hugging Face "
                              "modules: 300 to 400 ms a decode iteration at batch 32")
    profile["experts"].update(bytes_per_parameter=0.437, row_us=1.0, expert_us=1000.0,
                              layer_us=100.0, padding_rows_per_expert=0.0)
    profile["experts"]["products"] = roofline(1375.0, 120.0, 1.0)
    profile["attention"].update(layer_us=700.0, row_us=1.0, decode_us=5.0)
    profile["step"].update(step_us=5000.0, sampled_us=20.0)
    points = [{"label": "decode, batch 32, context 512", "step": ([], 32, 512), "us": 350e3}]

    def predict(current, point):
        return cost.whole_step_ms(current, mixtral, *point["step"]) * 1e3

    paths = ["experts.expert_us"]
    cost.fit(profile, paths, points, predict)
    cost.note(profile, "a decode iteration at batch 32, the middle of what is published",
              "QLLM's engine on an A100 80 GB: 300 to 400 ms", paths, points, predict, table=True)
    profile["assumed"] = [
        "One number anchors all: the error against 300 and 400 ms is +17 and -13 %. It goes to the "
        "experts' own times (each is unpacked when it is used), which a batch of 32 all touches.",
        "Prefill is not published. Assumed: 120 TFLOP/s once an expert is unpacked, not hidden behind "
        "reading; sweep experts.products.compute_tflop_per_s.",
        "Not measured: 0.7 ms a layer of attention, 5 ms a step. Experts have 0.437 bytes a "
        "parameter, so that with 16-bit attention and head the weights are 22.93 GB.",
        "The rest is the profile a100-80gb's.",
    ]
    return profile


def all_profiles(traces, models):
    qwen = models["qwen3-30b-a3b"]
    mixtral = models["mixtral-8x7b"]
    rtx = fit_rtx(qwen, traces["rtx"])
    return [fit_h200(qwen), fit_h200_vllm(qwen, rtx), fit_h100(mixtral, traces["h100"]), rtx, a100(),
            a100_mixtral(mixtral)]
