#pragma once

namespace gimbal::apps {

// The Python side of `gimbal report` for results of `bench reproduce`: reads one JSON object on
// standard input, {"files": paths of NAME.json, "out": folder, "formats": ["png", …]}, draws, and
// prints the path of each file it wrote: NAME-front (TTFT against TPOT of each system),
// NAME-changes (against the best baseline) and, where there are claims, NAME-claims. Bars are 95 %
// intervals. For draw().
inline constexpr const char* kReproductionPlotScript = R"python(
import matplotlib.ticker

MARKERS = "osv^<>DPX*hd"


def distinct(values):
    return list(dict.fromkeys(values))


def bar(interval):
    """The estimate, and how far the interval reaches below and above it."""
    estimate = interval["estimate"]
    below = max(0.0, estimate - interval["low"])
    above = max(0.0, interval["high"] - estimate)
    return estimate, [[below], [above]]


def change(ratio):
    """A ratio as percent of change."""
    return {name: 100 * (value - 1) for name, value in ratio.items()}


def family_of(system):
    """Points of one curve share what stands before a value: "vllm B=512"."""
    return system.rsplit(" ", 1)[0] if "=" in system.rsplit(" ", 1)[-1] else None


def value_of(system):
    return float(system.rsplit("=", 1)[1])


def draw_curves(axes, cells, colours):
    for family in distinct(family_of(cell["system"]) for cell in cells):
        if family is None:
            continue
        points = [cell for cell in cells if family_of(cell["system"]) == family]
        points.sort(key=lambda cell: value_of(cell["system"]))
        axes.plot(
            [point["mean_tpot_ms"]["estimate"] for point in points],
            [point["mean_ttft_ms"]["estimate"] for point in points],
            color=colours[family], linewidth=1, alpha=0.6,
        )
        for point in points:
            axes.annotate(
                point["system"].rsplit(" ", 1)[1], fontsize="xx-small", xytext=(3, 3),
                xy=(point["mean_tpot_ms"]["estimate"], point["mean_ttft_ms"]["estimate"]),
                textcoords="offset points",
            )


def front_figure(result):
    cells = result["cells"]
    workloads = distinct(cell["workload"] for cell in cells)
    loads = distinct(cell["load"] for cell in cells)
    names = distinct(family_of(cell["system"]) or cell["system"] for cell in cells)
    colours = {name: f"C{i % 10}" for i, name in enumerate(names)}
    figure, panels = plt.subplots(
        len(workloads), len(loads), squeeze=False,
        figsize=(max(6, 3.6 * len(loads)), max(4, 3 * len(workloads))),
    )
    for row, workload in enumerate(workloads):
        for column, load in enumerate(loads):
            axes = panels[row, column]
            here = [c for c in cells if c["workload"] == workload and c["load"] == load]
            draw_curves(axes, here, colours)
            for cell in here:
                name = family_of(cell["system"]) or cell["system"]
                x, x_bar = bar(cell["mean_tpot_ms"])
                y, y_bar = bar(cell["mean_ttft_ms"])
                axes.errorbar(
                    x, y, xerr=x_bar, yerr=y_bar, capsize=2, markersize=4, linewidth=1,
                    marker=MARKERS[names.index(name) % len(MARKERS)], color=colours[name],
                    label=name,
                )
            ttfts = [cell["mean_ttft_ms"]["estimate"] for cell in here]
            if min(ttfts) > 0 and max(ttfts) > 5 * min(ttfts):
                axes.set_yscale("log")
            axes.set_title(f"{workload}, load {load:g}", fontsize="small")
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("mean TPOT (ms)")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean TTFT (ms)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    first = {label: handle for handle, label in reversed(list(zip(handles, labels)))}
    panels[0, 0].legend([first[name] for name in names], names, fontsize="xx-small")
    return figure


def changes_figure(result):
    """What each system changes in each cell, against the best baseline there."""
    cells = [cell for cell in result["cells"] if not cell["baseline"]]
    places = distinct((cell["workload"], cell["load"]) for cell in cells)
    systems = distinct(cell["system"] for cell in cells)
    figure, panels = plt.subplots(3, 1, figsize=(max(8, 0.55 * len(places) + 3), 10), sharex=True)
    metrics = (("ttft_ratio", "mean TTFT"), ("tpot_ratio", "mean TPOT"), ("e2el_ratio", "mean E2E"))
    for axes, (field, label) in zip(panels, metrics):
        for index, system in enumerate(systems):
            shift = 0.7 * ((index + 0.5) / len(systems) - 0.5)
            for cell in (c for c in cells if c["system"] == system and field in c):
                y, y_bar = bar(change(cell[field]))
                x = places.index((cell["workload"], cell["load"])) + shift
                axes.errorbar(
                    x, y, yerr=y_bar, color=f"C{index % 10}", capsize=2, markersize=4,
                    marker=MARKERS[index % len(MARKERS)], linewidth=1,
                    label=system if x - shift == 0 else None,
                )
        axes.axhline(0, color="black", linewidth=0.8)
        changes = [change(cell[field])["estimate"] for cell in cells if field in cell]
        if max(changes, default=0) > 200:  # beyond saturation: small changes would vanish beside it
            axes.set_yscale("symlog", linthresh=50)
            axes.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axes.set_ylabel(f"{label}, change (%)")
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize="x-small")
    panels[-1].set_xticks(range(len(places)))
    panels[-1].set_xticklabels(
        [f"{workload} {load:g}" for workload, load in places], rotation=60, ha="right",
        fontsize="small",
    )
    return figure


def claims_figure(result):
    claims = [claim for claim in result["claims"] if claim["cells"] > 0 and claim["found_change"]]
    if not claims:
        return None
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.8 * len(claims)))
    for row, claim in enumerate(claims):
        found, found_bar = bar({k: 100 * v for k, v in claim["found_change"].items()})
        colour = {"reproduced": "C2", "not reproduced": "C3"}.get(claim["outcome"], "C7")
        axes.barh(row, found, height=0.4, color=colour, alpha=0.4)
        axes.errorbar(found, row, xerr=found_bar, color=colour, capsize=3)
        axes.plot(100 * claim["claimed_change"], row, marker="D", color="black", linestyle="")
    axes.set_yticks(range(len(claims)))
    axes.set_yticklabels(
        [f"{c['claim']} [{c['label']}]\n{c['system']}, {c['where']}" for c in claims],
        fontsize="small",
    )
    axes.set_ylim(len(claims) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("change (%): bars are found, with 95 % intervals; diamonds are claimed")
    axes.grid(axis="x", alpha=0.3)
    return figure


def main():
    task = json.load(sys.stdin)
    os.makedirs(task["out"], exist_ok=True)
    taken = set()
    for path in task["files"]:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        try:
            figures = {
                "front": front_figure(result),
                "changes": changes_figure(result),
                "claims": claims_figure(result),
            }
        except (KeyError, IndexError, TypeError, ValueError) as wrong:
            sys.exit(f"{path}: is not what `gimbal bench reproduce` writes: {wrong!r}")
        base = name = os.path.splitext(os.path.basename(path))[0]
        number = 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        for title, figure in figures.items():
            if figure is None:
                continue
            figure.suptitle(f"{result['title']}\n{result['place']}", fontsize="medium")
            figure.tight_layout()
            for kind in task["formats"]:
                target = os.path.join(task["out"], f"{name}-{title}.{kind}")
                figure.savefig(target, dpi=120, metadata={"Date": None} if kind == "svg" else None)
                print(target)
            plt.close(figure)


main()
)python";

}  // namespace gimbal::apps
