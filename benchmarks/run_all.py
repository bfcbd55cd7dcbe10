"""Run every benchmark in this folder, or those named, one after the other: ``make bench``.

python benchmarks/run_all.py [NAME ...] [--quick]
"""

import runpy
import subprocess
import sys
from pathlib import Path

from common import Options

options = Options(__doc__)
options.add_argument("names", nargs="*", help="as bench_stack; all where none is named")
asked = options.parse()
folder = Path(__file__).parent
for name in asked.names or sorted(path.stem for path in folder.glob("bench_*.py")):
    print(f"== {name}", flush=True)
    script = str(folder / f"{name}.py")
    if asked.quick:  # in this process: only to see that all run, and libraries load once
        sys.argv = [script, "--quick"]
        runpy.run_path(script, run_name="__main__")
    else:  # alone, for its memory is measured
        subprocess.run([sys.executable, script], check=True)
