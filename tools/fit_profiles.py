#!/usr/bin/env python3
"""Fits the shipped hardware profiles (src/cost/data/profiles) to measurements and prints the errors.

    tools/fit_profiles.py TRACES            print what each fit leaves
    tools/fit_profiles.py TRACES --write    write the profiles, too

TRACES is the folder that holds vllm-moe-timing-rtxpro6000 and vllm-moe-timing-h100-mixtral. The
measured steps of whole systems (one H200 under vLLM 0.23) are below, as published in the evaluation
plan. The arithmetic is that of src/cost/cost_model.h; times are microseconds. Python 3.11, no packages.
"""
import argparse
import csv
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from profile_fits import arithmetic as cost  # noqa: E402
from profile_fits import machines  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_csv(path: pathlib.Path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_traces(folder: pathlib.Path):
    rtx = folder / "vllm-moe-timing-rtxpro6000"
    names = ("moe", "dense", "per_sequence", "attention")
    return {
        "rtx": {name: read_csv(rtx / f"{name}.csv") for name in names},
        "h100": read_csv(folder / "vllm-moe-timing-h100-mixtral" / "tp1_layers.csv"),
    }


def print_rows(rows):
    for label, measured, predicted in rows:
        print(f"    {label:<36} measured {measured:10.3f} ms, predicted {predicted:10.3f} ms "
              f"({100 * (predicted / measured - 1):+5.1f} %)")


def print_profile(profile):
    """Prints what was fitted, and takes what is only for printing out of the profile."""
    print(f"{profile['name']}:")
    for note in profile["fitted"]:
        print(f"  {note['what']}: {note['points']} points, error {note['mean_error_percent']:.1f} % "
              f"in the mean, {note['max_error_percent']:.1f} % at most")
        print_rows(note.pop("table", []))
    left_out = profile.pop("left_out", [])
    if left_out:
        print("  each left out of the fit, and predicted:")
        print_rows(left_out)
    if not profile["fitted"]:
        print("  nothing is fitted")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("traces", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    models = {name: cost.Model.read(ROOT / "src/cost/data/models" / f"{name}.json")
              for name in ("qwen3-30b-a3b", "mixtral-8x7b")}
    traces = read_traces(options.traces)
    for profile in machines.all_profiles(traces, models):
        print_profile(profile)
        if options.write:
            path = ROOT / "src/cost/data/profiles" / f"{profile['name']}.json"
            path.write_text(json.dumps(cost.rounded(profile), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
