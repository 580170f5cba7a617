#!/usr/bin/env bash
# Sets up on the first call, then opens the studio in a browser: bash bashscripts/studio.sh [FOLDER [options]]
# Without a folder it opens the built-in data in snapshots/studio; options are those of `spml studio`.
set -euo pipefail
CALLED_FROM=$PWD
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_setup studio
if [ $# -gt 0 ]; then
  CDPATH='' cd -- "$CALLED_FROM"
  exec "$SPML_PYTHON" -m spml studio "$@"
fi
"$SPML_PYTHON" -m spml shapes --save_dir snapshots/studio --num_train 24 --num_val 1
exec "$SPML_PYTHON" -m spml studio snapshots/studio/image --classes snapshots/studio/classes.txt
