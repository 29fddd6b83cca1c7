"""How long `kreid.layers` takes to import beyond Keras, and `kreid` beyond Python, each in new processes.

    python tests/benchmarks/imports.py [--rounds 7]

Prints medians of the processor's seconds, which other processes on the machine change little, and the ratio of Keras
with `kreid.layers` to Keras alone. Run it where kreid is installed from a wheel. Target: 0.3 s beyond Keras.
"""

import argparse
import resource
import statistics
import subprocess
import sys

CODE = {
    "python": "",
    "kreid": "import kreid",
    "keras": "import keras",
    "keras, kreid.layers": "import keras, kreid.layers",
    "keras, kreid.losses": "import keras, kreid.losses",
    "keras, kreid.models": "import keras, kreid.models",
}


def seconds_of(code):
    """Return the processor's seconds of a process that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for code in CODE.values():
        seconds_of(code)  # Compiles the modules.
    measured = [{name: seconds_of(code) for name, code in CODE.items()} for _ in range(rounds)]
    medians = {name: statistics.median(one[name] for one in measured) for name in CODE}
    for name, median in medians.items():
        print(f"{name:<20} {median:6.2f} s")
    keras, layers = medians["keras"], medians["keras, kreid.layers"]
    print(f"kreid.layers beyond Keras: {layers - keras:.2f} s, {layers / keras:.2f} times Keras")


if __name__ == "__main__":
    main()
