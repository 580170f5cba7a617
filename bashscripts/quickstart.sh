#!/usr/bin/env bash
# Sets up on the first call, then makes the built-in data, trains, predicts and evaluates; the table comes last, and
# snapshots/quickstart/ holds result.json and result.png. Arguments go to pyscripts/quickstart.py (--help lists them).
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_setup
exec "$SPML_PYTHON" pyscripts/quickstart.py "$@"
