#!/usr/bin/env bash
# Sets up on the first call, then runs the tests, a process a core; arguments go to pytest: bash bashscripts/test.sh -k kmeans
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_setup dev
cores=$(nproc 2>/dev/null || echo 2)
export OMP_NUM_THREADS=1 # the processes share the cores; nproc would read it, too
exec "$SPML_PYTHON" -m pytest -n "$cores" --dist worksteal "$@"
