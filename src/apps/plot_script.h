#pragma once

namespace gimbal::apps {

// The Python side of `gimbal report`: reads one JSON object on standard input, {"files": paths of
// saved results, "names": one each, "out": folder, "formats": ["png", …]}, draws, and prints the
// path of each file it wrote. For draw().
inline constexpr const char* kPlotScript = R"python(
def completed(result, values):
    """Entries of a list of one entry a request, of those that were answered."""
    errors = result.get("errors") or [""] * len(values)
    return [value for value, error in zip(values, errors) if not error]


def tpots_of(result):
    """Milliseconds a token after the first, of answers with two or more."""
    gaps = completed(result, result["itls"])
    lengths = completed(result, result["output_lens"])
    return [1e3 * sum(g) / (n - 1) for g, n in zip(gaps, lengths) if n > 1]


def ttfts_of(result):
    return [1e3 * value for value in completed(result, result["ttfts"])]


def e2es_of(result):
    ttfts = completed(result, result["ttfts"])
    return [1e3 * (t + sum(g)) for t, g in zip(ttfts, completed(result, result["itls"]))]


def draw_cdf(axes, series, label):
    for name, values in series:
        if not values:
            continue
        values = sorted(values)
        shares = [(i + 1) / len(values) for i in range(len(values))]
        axes.step(values, shares, where="post", label=f"{name} (n={len(values)})")
    axes.set_xlabel(label)
    axes.set_ylabel("share of requests")
    axes.set_ylim(0, 1.01)
    axes.grid(alpha=0.3)
    if axes.has_data():
        everything = [value for _, values in series for value in values]
        if min(everything) > 0 and max(everything) > 50 * min(everything):
            axes.set_xscale("log")
        axes.legend(fontsize="small")


def cdf_figure(results):
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.5))
    for axes, of, label in zip(
        panels, (ttfts_of, tpots_of, e2es_of), ("TTFT (ms)", "TPOT (ms)", "E2E (ms)")
    ):
        draw_cdf(axes, [(name, of(result)) for name, result in results], label)
    return figure


def by_class(results):
    """The results apart by class of request, where there are classes."""
    apart = []
    for name, result in results:
        classes = result.get("classes_of") or []
        for one in sorted(set(classes) - {""}):
            keep = [i for i, c in enumerate(classes) if c == one]
            lists = ("errors", "itls", "output_lens", "ttfts")
            members = {k: [result[k][i] for i in keep] for k in lists if k in result}
            apart.append((f"{name} {one}", members))
    return apart


def rates(times, weights, width, bins):
    counts = [0.0] * bins
    for time, weight in zip(times, weights):
        counts[min(int(time / width), bins - 1)] += weight / width
    return counts


def start_times_of(result):
    """Seconds since the run's start; vLLM's are readings of a clock, and count from the first."""
    starts = result["start_times"]
    if "scheduled_times" in result:
        return starts
    first = min(completed(result, starts) or starts, default=0.0)
    return [start - first for start in starts]


def draw_timeline(column, name, result):
    """TTFT of each request at the time it was sent; requests in flight; chunks a second."""
    starts = start_times_of(result)
    ends, sent, ttfts, tokens = [], [], [], []
    errors = result.get("errors") or [""] * len(starts)
    for start, ttft, gaps, error in zip(starts, result["ttfts"], result["itls"], errors):
        if error:
            continue
        sent.append(start)
        ttfts.append(1e3 * ttft)
        at = start + ttft
        tokens.append(at)
        for gap in gaps:
            at += gap
            tokens.append(at)
        ends.append(at)
    span = max(ends, default=1.0) or 1.0
    bins = 100
    width = span / bins
    edges = [width * i for i in range(bins)]
    column[0].set_title(name)
    column[0].scatter(sent, ttfts, s=6, alpha=0.6)
    column[0].set_ylabel("TTFT (ms)")
    failed = [start for start, error in zip(starts, errors) if error]
    for start in failed:
        column[0].axvline(start, color="red", alpha=0.2)
    changes = sorted([(t, 1) for t in sent] + [(t, -1) for t in ends])
    times, counts, now = [0.0], [0], 0
    for time, change in changes:
        now += change
        times.append(time)
        counts.append(now)
    column[1].step(times, counts, where="post")
    column[1].set_ylabel("requests in flight")
    column[2].step(edges, rates(tokens, [1] * len(tokens), width, bins), where="post")
    column[2].set_ylabel("chunks of output a second")
    column[2].set_xlabel("time (s)")
    for axes in column:
        axes.set_xlim(0, span)
        axes.grid(alpha=0.3)


def timeline_figure(results):
    figure, panels = plt.subplots(
        3, len(results), figsize=(max(8, 6 * len(results)), 9), squeeze=False, sharex="col"
    )
    for index, (name, result) in enumerate(results):
        draw_timeline(panels[:, index], name, result)
    return figure


PRESSURE = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "gimbal:waiting_prefill_tokens",
)


def pressure_figure(results):
    """What the servers' engines said of themselves, a line for each engine; None without samples."""
    sampled = [(name, r["server_samples"]) for name, r in results if r.get("server_samples")]
    names = {series.split("{")[0] for _, samples in sampled for series in samples["gauges"]}
    shown = [name for name in PRESSURE if name in names]
    shown += sorted(name for name in names if "pressure" in name and name not in shown)
    if not shown:
        return None
    figure, panels = plt.subplots(
        len(shown), len(sampled), figsize=(max(8, 6 * len(sampled)), 2.6 * len(shown)),
        squeeze=False, sharex="col",
    )
    for column, (name, samples) in enumerate(sampled):
        panels[0, column].set_title(name)
        for row, gauge in enumerate(shown):
            axes = panels[row, column]
            for series, values in sorted(samples["gauges"].items()):
                if series.split("{")[0] != gauge:
                    continue
                values = [float("nan") if value is None else value for value in values]
                label = series[len(gauge):].strip("{}") or "server"
                axes.step(samples["times"], values, where="post", label=label)
            axes.set_ylabel(gauge.split(":")[-1], fontsize="small")
            axes.grid(alpha=0.3)
            if axes.has_data():
                axes.legend(fontsize="x-small")
        panels[-1, column].set_xlabel("time (s)")
    return figure


def main():
    task = json.load(sys.stdin)
    results = []
    for path, name in zip(task["files"], task["names"]):
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        for needed in ("ttfts", "itls", "output_lens", "start_times"):
            if needed not in result:
                sys.exit(f"{path}: has no {needed}: save it with --save-detailed")
        results.append((name, result))
    figures = {"latency-cdf": cdf_figure(results), "timeline": timeline_figure(results)}
    pressure = pressure_figure(results)
    if pressure:
        figures["server-pressure"] = pressure
    apart = by_class(results)
    if apart:
        figures["latency-cdf-by-class"] = cdf_figure(apart)
    os.makedirs(task["out"], exist_ok=True)
    for title, figure in figures.items():
        figure.tight_layout()
        for kind in task["formats"]:
            path = os.path.join(task["out"], f"{title}.{kind}")
            figure.savefig(path, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            print(path)


main()
)python";

}  // namespace gimbal::apps
