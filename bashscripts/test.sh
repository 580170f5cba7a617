#!/usr/bin/env bash
# Sets up on the first call, then runs the tests; arguments go to pytest: bash bashscripts/test.sh -k kmeans
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_setup dev
exec "$SPML_PYTHON" -m pytest "$@"
